"""Asks the page as a program does, without Gradio's client."""

API = '/gradio_api'


def upload(http, *paths, **changes):
  files = [('files', (path.name, path.read_bytes())) for path in paths]
  return http.post(f'{API}/upload', files=files, **changes)


def call(http, *files):
  """Calls the function for programs; returns the response, or its result."""
  response = http.post(f'{API}/call/name_genres', json={'data': [list(files)]})
  if response.status_code != 200:
    return response
  event = response.json()['event_id']
  return http.get(f'{API}/call/name_genres/{event}').text


def file_data(path):
  return {'path': str(path), 'meta': {'_type': 'gradio.FileData'}}

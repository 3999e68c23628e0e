"""The page as a server: what programs get."""

import re

from etils import epath
import pytest

from genre_flax.demo import service as service_lib
from tests.demo import asking
from tests.support import paths

pytest.importorskip('gradio', reason="needs: pip install -e '.[demo]'")
gradio_client = pytest.importorskip('gradio_client')
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def client(address):
  return gradio_client.Client(address, verbose=False, analytics_enabled=False)


def test_programs_get_scores(client, service, posters, tmp_path):
  bad = tmp_path / '=cmd.jpg'
  bad.write_text('<html>')
  answers = client.predict(
    posters=[gradio_client.handle_file(str(p)) for p in (posters[0], bad)],
    api_name='/name_genres',
  )
  assert answers[1]['error'].startswith('not an image')
  scores = {each['genre']: each['score'] for each in answers[0]['genres']}
  assert set(scores) == set(service.genres)
  [expected] = service.name_genres([upload_of(posters[0])])
  assert [scores[genre] for genre in service.genres] == pytest.approx(
    expected.scores.tolist(), abs=1e-5
  )
  assert list(scores.values()) == sorted(scores.values(), reverse=True)


def test_the_program_of_the_document(address, posters, capsys):
  document = (paths.ROOT / 'docs' / 'page.md').read_text()
  [program] = re.findall(r'^```python\n(.*?)^```', document, re.M | re.S)
  for said, here in (
    ('http://127.0.0.1:7860', address),
    ('poster.jpg', str(posters[0])),
  ):
    assert said in program
    program = program.replace(said, here)
  exec(program, {})
  printed = capsys.readouterr().out
  assert posters[0].name in printed and printed.count("'score'") == 3


def upload_of(path):
  return service_lib.Upload(path.name, epath.Path(path))


def test_twenty_at_once(client, service, posters):
  jobs = [
    client.submit(
      posters=[gradio_client.handle_file(str(path))], api_name='/name_genres'
    )
    for path in posters
  ]
  assert len(jobs) == 20
  for job, path in zip(jobs, posters, strict=True):
    [answer] = job.result(timeout=60)
    [expected] = service.name_genres([upload_of(path)])
    assert answer['genres'][0]['score'] == pytest.approx(
      expected.scores.max(), abs=1e-5
    )
    assert answer['poster'] == path.name


def test_programs_see_one_function(client, http):
  assert list(client.view_api(return_format='dict')['named_endpoints']) == [
    '/name_genres'
  ]
  assert client.view_api(return_format='dict')['unnamed_endpoints'] == {}


def test_too_many_files_are_told(http, posters):
  [path] = asking.upload(http, posters[0]).json()
  told = asking.call(http, *[asking.file_data(path)] * 25)
  assert '25 posters were given; at most 24' in told

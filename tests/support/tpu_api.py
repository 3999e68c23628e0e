"""The Cloud TPU API for the real gcloud: only the cloud is played.

A queued resource becomes ACTIVE at its second description. Workers are folders:
`ssh` and `scp`, which gcloud starts, run and copy there.
"""

import http.server
import json
import os
import pathlib
import re
import stat
import sys
import threading

from tests.support import programs

_LOCATION = 'projects/p/locations/us-west4-a'
_SSH = f"""#!{sys.executable}
import os, pathlib, shutil, subprocess, sys
root = pathlib.Path(os.environ['TPU_API_ROOT'])
with open(root / 'calls.log', 'a') as log:
  log.write(f'{{sys.argv!r}}\\n')
if (root / 'unreachable').exists():
  sys.exit(255)
words, args = [], iter(sys.argv[1:])
for arg in args:
  if words or not arg.startswith('-'):
    words.append(arg)
  elif arg in ('-i', '-o', '-p', '-P', '-l', '-F'):
    next(args)
if 'scp' in sys.argv[0]:
  *sources, target = words
  host, _, path = target.partition(':')
else:
  host = words[0]
number = int(host.split('@')[-1].split('.')[-1]) - 1
home = root / f'worker_{{number}}'
home.mkdir(exist_ok=True)
if 'scp' in sys.argv[0]:
  for source in sources:
    shutil.copy(source, home / path)
  sys.exit()
env = {{
  **os.environ,
  'HOME': str(home),
  'PATH': f'{{root}}/worker_bin:/usr/bin:/bin',
  'JAX_COORDINATOR_ADDRESS': os.environ['COORDINATOR'],
  'JAX_NUM_PROCESSES': os.environ['HOSTS'],
  'JAX_PROCESS_ID': str(number),
}}
if os.environ['HOSTS'] == '1':
  for name in [name for name in env if name.startswith('JAX_') and (
    'PROCESS' in name or 'ADDRESS' in name)]:
    del env[name]
command = ' '.join(word for word in words[1:] if word != '--')
sys.exit(subprocess.run(['bash', '-c', command], cwd=home, env=env).returncode)
"""
# Installing the packages is left out; the interpreter of the tests has them.
_UV = """#!/bin/bash
echo "$PWD $*" >>"$HOME/uv.log"
if [ "$1" = venv ]; then
  venv="$PWD/${!#}/bin"
  mkdir -p "$venv"
  printf '#!/bin/bash\\nexec PYTHON "$@"\\n' >"$venv/python"
  chmod +x "$venv/python"
  echo "PATH=$venv:\\$PATH" >"$venv/activate"
fi
"""


class Cloud:
  """A project with one zone, served on a port of this machine.

  Attributes:
    root: folder of the workers, `worker_N`.
    requests: method and path of each request.
    queue: queued resources by name.
    nodes: TPU VMs by name.
    num_refused: next descriptions of queued resources that are refused.
  """

  def __init__(self, root: pathlib.Path, num_hosts: int):
    self.root, self.num_hosts = root, num_hosts
    self.requests, self.queue, self.nodes = [], {}, {}
    self.last = {}
    self.num_refused = 0
    handler = type('Handler', (_Handler,), {'cloud': self})
    self._server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    self._thread = threading.Thread(target=self._server.serve_forever)
    self._thread.start()
    for folder in ('bin', 'worker_bin', 'gcloud', 'home'):
      (root / folder).mkdir(parents=True)
    (root / 'token').write_text('token')
    for path, text in (
      ('bin/ssh', _SSH),
      ('bin/scp', _SSH),
      ('worker_bin/uv', _UV.replace('PYTHON', sys.executable)),
    ):
      (root / path).write_text(text)
      (root / path).chmod(stat.S_IRWXU)

  def close(self):
    self._server.shutdown()
    self._thread.join()
    self._server.server_close()

  @property
  def env(self):
    """The environment of gcloud."""
    address = f'http://127.0.0.1:{self._server.server_port}'
    return {
      **programs.environment(),
      'TPU_API_ROOT': str(self.root),
      'COORDINATOR': programs.free_address(),
      'HOSTS': str(self.num_hosts),
      'HOME': str(self.root / 'home'),
      'PATH': f'{self.root}/bin:{os.environ["PATH"]}',
      'CLOUDSDK_CONFIG': str(self.root / 'gcloud'),
      'CLOUDSDK_CORE_PROJECT': 'p',
      'CLOUDSDK_CORE_DISABLE_PROMPTS': '1',
      'CLOUDSDK_CORE_DISABLE_USAGE_REPORTING': '1',
      'CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK': '1',
      'CLOUDSDK_AUTH_ACCESS_TOKEN_FILE': str(self.root / 'token'),
      'CLOUDSDK_API_ENDPOINT_OVERRIDES_TPU': f'{address}/',
      'CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE': f'{address}/compute/v1/',
      'POLL_SECONDS': '0.5',
      'MAX_MISSES': '2',
    }

  def set_reachable(self, is_reachable):
    """Lets all connections by ssh succeed or fail."""
    if is_reachable:
      (self.root / 'unreachable').unlink(missing_ok=True)
    else:
      (self.root / 'unreachable').touch()

  def preempt(self):
    """Takes the only slice away."""
    self.set_reachable(False)
    for node in self.nodes.values():
      node['state'] = 'PREEMPTED'
    for resource in self.queue.values():
      resource['state'] = {'state': 'SUSPENDED'}

  def add_node(self, name, spec):
    self.set_reachable(True)
    hosts = [f'127.0.1.{number + 1}' for number in range(self.num_hosts)]
    self.nodes[name] = {
      'name': f'{_LOCATION}/nodes/{name}',
      'acceleratorType': spec.get('acceleratorType', ''),
      'state': 'READY',
      'health': 'HEALTHY',
      'apiVersion': 'V2_ALPHA1',
      'metadata': spec.get('metadata', {}),
      'id': '1',
      'networkEndpoints': [
        {'ipAddress': host, 'port': 8470, 'accessConfig': {'externalIp': host}}
        for host in hosts
      ],
    }


class _Handler(http.server.BaseHTTPRequestHandler):
  """Answers requests of gcloud."""

  protocol_version = 'HTTP/1.1'
  cloud: Cloud

  def log_message(self, *args):
    pass

  def _send(self, status, value):
    body = json.dumps(value).encode()
    self.send_response(status)
    self.send_header('Content-Type', 'application/json')
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)

  def _refuse(self, name):
    message = f"Resource '{name}' was not found"
    error = {'code': 404, 'message': message, 'status': 'NOT_FOUND'}
    self._send(404, {'error': error})

  def _finish(self, response):
    """An operation that is done."""
    self.cloud.last = response
    name = f'{_LOCATION}/operations/op-1'
    self._send(200, {'name': name, 'done': True, 'response': response})

  def _answer(self):
    cloud, method = self.cloud, self.command
    length = int(self.headers.get('Content-Length') or 0)
    body = json.loads(self.rfile.read(length) or '{}')
    path, _, query = self.path.partition('?')
    cloud.requests.append((method, path))
    if found := re.search(r'/queuedResources/([^/:]+)$', path):
      self._answer_queued(method, found[1])
    elif path.endswith('/queuedResources') and method == 'POST':
      name = re.search(r'queuedResourceId=([^&]+)', query)[1]
      body['name'] = f'{_LOCATION}/queuedResources/{name}'
      body['state'] = {'state': 'WAITING_FOR_RESOURCES'}
      cloud.queue[name] = body
      kind = 'type.googleapis.com/google.cloud.tpu.v2.QueuedResource'
      self._finish({'@type': kind, **body})
    elif found := re.search(r'/nodes/([^/:]+)$', path):
      node = cloud.nodes.get(found[1])
      if node is None:
        self._refuse(path)
      elif method == 'PATCH':
        node['metadata'] = body.get('metadata', node['metadata'])
        self._finish(
          {'@type': 'type.googleapis.com/google.cloud.tpu.v2.Node', **node}
        )
      else:
        self._send(200, node)
    elif '/operations/' in path:
      self._finish(cloud.last)
    elif path.endswith('/projects/p'):
      metadata = {'items': []}
      self._send(200, {'name': 'p', 'commonInstanceMetadata': metadata})
    else:
      self._refuse(path)

  def _answer_queued(self, method, name):
    cloud = self.cloud
    resource = cloud.queue.get(name)
    if method == 'GET' and cloud.num_refused:
      cloud.num_refused -= 1
      error = {'code': 403, 'message': 'no', 'status': 'PERMISSION_DENIED'}
      self._send(403, {'error': error})
      return
    if resource is None:
      self._refuse(name)
      return
    spec = resource['tpu']['nodeSpec'][0]
    if method == 'DELETE':
      del cloud.queue[name]
      cloud.nodes.pop(spec['nodeId'], None)
      self._finish({})
      return
    self._send(200, resource)
    if resource['state']['state'] == 'WAITING_FOR_RESOURCES':
      cloud.add_node(spec['nodeId'], spec['node'])
      resource['state'] = {'state': 'ACTIVE', 'activeData': {}}

  do_GET = do_POST = do_PATCH = do_DELETE = _answer

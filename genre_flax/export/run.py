"""One export from beginning to end, as the binary runs it."""

import pathlib

from absl import logging
from etils import epath

from genre_flax.export import folder
from genre_flax.export import write
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import errors
from genre_flax.runtime import files


def run(
  workdir: epath.Path,
  *,
  form: str,
  step: str,
  output: pathlib.Path | None,
  push: str | None,
  page_runtime: pathlib.Path | None,
  allow_custom_code: bool,
) -> int:
  """Exports a checkpoint, says what came out, and uploads it where asked.

  Args:
    workdir: of the run.
    form: a key of `write.FORMS`.
    step: 'best', 'latest' or a number.
    output: folder to write; None for WORKDIR/export/FORM_STEP.
    push: USER/NAME on the hub; None for none.
    page_runtime: for 'web', where ONNX Runtime Web is.
    allow_custom_code: see `predictor_lib.restore`.

  Returns:
    The exit status.

  Raises:
    UserError: see `write.export` and `hub.push`.
  """
  if push is not None:
    with write.needing_the_extra():
      from genre_flax.export import hub
    hub.check_name(push)
  predictor = predictor_lib.restore(
    workdir, step=step, allow_custom_code=allow_custom_code
  )
  if output is None:
    if files.is_remote(workdir):
      raise errors.InputError(
        f'An export is written to a disk, and {workdir} is not on one; choose a'
        ' folder with --output.'
      )
    output = pathlib.Path(workdir) / 'export' / f'{form}_{predictor.step}'
  folder.check_place(output)
  logging.info('Exporting step %d as %s.', predictor.step, form)
  found = write.export(
    predictor,
    workdir=workdir,
    form=form,
    output=output,
    page_runtime=page_runtime,
  )
  print(
    f'Of {found["num_posters"]} {found["posters"]}, {found["same_top_three"]}'
    ' have the same three genres as here; scores differ by at most'
    f' {found["largest_difference"]:.1g}.'
  )
  print(f'Wrote {output}')
  if form == 'web':
    print('To look at it:')
    print(f'  python -m http.server --directory {output}')
  if push is not None:
    address = hub.push(output, push, is_page=form == 'web')
    print(f'Uploaded to {address}')
  return 0

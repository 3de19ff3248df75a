import { describe, expect, it } from 'vitest';
import { loggedColumns } from '../../../activities/mlflow-model.ts';

/** As MLflow 3.17 writes it: PyYAML breaks long texts into lines, and doubles quotes. */
const MLMODEL = `artifact_path: mlflow-artifacts:/0/models/m-1/artifacts
flavors:
  onnx:
    data: model.onnx
is_signature_from_type_hint: false
signature:
  inputs: '[{"type": "double", "name": "sepal length (cm)", "required": true}, {"type":
    "double", "name": "bird''s eye", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'
  params: null
type_hint_from_example: false
`;

describe('the columns of an MLmodel file', () => {
  it('are read from a text that YAML broke into lines', () => {
    expect(loggedColumns(MLMODEL)).toEqual(['sepal length (cm)', "bird's eye"]);
  });

  it.each([
    ['no signature', 'flavors: {}\n'],
    ['tensors without names', `signature:\n  inputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}}]'\n`],
    ['a name twice', `signature:\n  inputs: '[{"name": "a"}, {"name": "a"}]'\n`],
    ['no list', `signature:\n  inputs: '{"name": "a"}'\n`],
    ['no JSON', `signature:\n  inputs: '[{"name'\n`],
  ])('are none where there is %s', (_, text) => {
    expect(loggedColumns(text)).toEqual([]);
  });
});

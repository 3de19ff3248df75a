import onnxProto from 'onnx-proto';
import * as ort from 'onnxruntime-node';
import type { DenseMatrix } from '../../../ml/matrix.ts';
import type { OnnxFragment } from '../../../ml/trainer.ts';

const { onnx } = onnxProto;

/** A trainer's part of a graph as a model of its own: input `x`, [rows × columns]. */
export function fragmentModel(fragment: OnnxFragment, columns: number, outputs: number): Uint8Array {
  const tensor = (name: string, width: number): InstanceType<typeof onnx.ValueInfoProto> =>
    new onnx.ValueInfoProto({
      name,
      type: { tensorType: { elemType: onnx.TensorProto.DataType.FLOAT, shape: { dim: [{ dimParam: 'n' }, { dimValue: width }] } } },
    });
  const model = new onnx.ModelProto({
    irVersion: 8,
    opsetImport: [
      { domain: '', version: fragment.opset.ai },
      { domain: 'ai.onnx.ml', version: fragment.opset.ml ?? 3 },
    ],
    graph: {
      name: 'gbdt',
      node: [...fragment.nodes],
      initializer: [...fragment.initializers],
      input: [tensor('x', columns)],
      output: [tensor(fragment.output, outputs)],
    },
  });
  return onnx.ModelProto.encode(model).finish();
}

/** The fragment's output for each row, [rows × outputs], row-major. @throws for any other shape */
export async function runFragment(fragment: OnnxFragment, x: DenseMatrix, outputs: number): Promise<Float32Array> {
  const session = await ort.InferenceSession.create(fragmentModel(fragment, x.columns, outputs));
  const rowMajor = new Float32Array(x.rows * x.columns);
  for (let row = 0; row < x.rows; row += 1) for (let c = 0; c < x.columns; c += 1) rowMajor[row * x.columns + c] = x.data[c * x.rows + row] ?? 0;
  const results = await session.run({ x: new ort.Tensor('float32', rowMajor, [x.rows, x.columns]) });
  await session.release();
  const output = results[fragment.output];
  if (String(output?.dims) !== String([x.rows, outputs])) throw new Error(`The output is [${String(output?.dims)}], not [${String([x.rows, outputs])}].`);
  return output?.data as Float32Array;
}

import danfo from 'danfojs-node';

/** The operations of TensorFlow.js that the network uses; danfojs hands the library on without types. */
export interface Tensor {
  flatten(): Tensor;
  asScalar(): Tensor;
  div(by: number): Tensor;
  dataSync(): Float32Array;
}
type Operand = Tensor | number;
export interface TensorFlow {
  enableProdMode(): void;
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  tensor1d(values: Float32Array | Int32Array, type?: 'int32'): Tensor;
  tensor2d(values: Float32Array, shape: readonly [number, number]): Tensor;
  matMul(a: Tensor, b: Tensor): Tensor;
  add(a: Operand, b: Operand): Tensor;
  sub(a: Operand, b: Operand): Tensor;
  mul(a: Operand, b: Operand): Tensor;
  neg(x: Tensor): Tensor;
  abs(x: Tensor): Tensor;
  exp(x: Tensor): Tensor;
  log1p(x: Tensor): Tensor;
  square(x: Tensor): Tensor;
  relu(x: Tensor): Tensor;
  sigmoid(x: Tensor): Tensor;
  softmax(x: Tensor): Tensor;
  logSoftmax(x: Tensor): Tensor;
  oneHot(labels: Tensor, classes: number): Tensor;
  concat(parts: readonly Tensor[], axis: number): Tensor;
  sum(x: Tensor, axis?: number): Tensor;
  mean(x: Tensor): Tensor;
  valueAndGrads(f: (...inputs: Tensor[]) => Tensor): (inputs: readonly Tensor[]) => { readonly value: Tensor; readonly grads: readonly Tensor[] };
  tidy<T>(f: () => T): T;
  dispose(tensors: readonly Tensor[]): void;
}

/** TensorFlow.js on its CPU backend, which is plain JavaScript and runs in worker threads. */
export async function loadTensorFlow(): Promise<TensorFlow> {
  const tensorflow = danfo.tensorflow as TensorFlow;
  tensorflow.enableProdMode();
  await tensorflow.setBackend('cpu');
  await tensorflow.ready();
  return tensorflow;
}

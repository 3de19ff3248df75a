// The peer of `serve`: Fastify and onnxruntime-node with nothing around them. Takes rows that are packed already.
// Arguments: the model's path. Prints its port.
import type { AddressInfo } from 'node:net';
import Fastify from 'fastify';
import { InferenceSession, Tensor } from 'onnxruntime-node';

interface Body {
  readonly numbers: readonly (readonly number[])[];
  readonly dates: readonly (readonly number[])[];
  readonly strings: readonly (readonly string[])[];
}

const session = await InferenceSession.create(process.argv[2] ?? '', { intraOpNumThreads: 1, interOpNumThreads: 1 });
const app = Fastify({ logger: false });
const matrix = (type: string): object => ({ type: 'array', items: { type: 'array', items: { type } } });
const schema = {
  body: {
    type: 'object',
    required: ['numbers', 'dates', 'strings'],
    properties: { numbers: matrix('number'), dates: matrix('number'), strings: matrix('string') },
  },
};

app.post<{ Body: Body }>('/predict', { schema }, async (request) => {
  const { numbers, dates, strings } = request.body;
  const rows = numbers.length;
  const [width, dateWidth, stringWidth] = [numbers[0]?.length ?? 0, dates[0]?.length ?? 0, strings[0]?.length ?? 0];
  const floats = new Float32Array(rows * width);
  const times = new BigInt64Array(rows * dateWidth);
  for (let row = 0; row < rows; row += 1) {
    floats.set(numbers[row] ?? [], row * width);
    (dates[row] ?? []).forEach((date, i) => {
      times[row * dateWidth + i] = BigInt(date);
    });
  }
  const feeds = {
    numbers: new Tensor('float32', floats, [rows, width]),
    dates: new Tensor('int64', times, [rows, dateWidth]),
    strings: new Tensor('string', strings.flat(), [rows, stringWidth]),
  };
  const { output } = await session.run(feeds, ['output']);
  return { output: Array.from(output?.data as Float32Array) };
});
await app.listen({ host: '127.0.0.1', port: 0 });
process.stdout.write(`${JSON.stringify({ port: (app.server.address() as AddressInfo).port })}\n`);

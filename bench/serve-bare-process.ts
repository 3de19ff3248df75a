// The peer of `serve`: Fastify and onnxruntime-node with nothing around them. It is asked for the same rows by column name.
// Arguments: the model's path, the columns of each of its inputs as JSON. Prints its port.
import type { AddressInfo } from 'node:net';
import Fastify from 'fastify';
import { InferenceSession, Tensor } from 'onnxruntime-node';

interface Body {
  readonly rows: readonly Readonly<Record<string, number | string>>[];
}

const { numbers, dates, strings } = JSON.parse(process.argv[3] ?? '{}') as Readonly<Record<'numbers' | 'dates' | 'strings', readonly string[]>>;
const session = await InferenceSession.create(process.argv[2] ?? '', { intraOpNumThreads: 1, interOpNumThreads: 1 });
const app = Fastify({ logger: false });
const row = {
  type: 'object',
  required: [...numbers, ...dates, ...strings],
  properties: {
    ...Object.fromEntries(numbers.map((name) => [name, { type: 'number' }])),
    ...Object.fromEntries([...dates, ...strings].map((name) => [name, { type: 'string' }])),
  },
};
const schema = { body: { type: 'object', required: ['rows'], properties: { rows: { type: 'array', items: row } } } };

app.post<{ Body: Body }>('/predict', { schema }, async (request) => {
  const { rows } = request.body;
  const floats = new Float32Array(rows.length * numbers.length);
  const times = new BigInt64Array(rows.length * dates.length);
  const texts = new Array<string>(rows.length * strings.length);
  rows.forEach((values, at) => {
    numbers.forEach((name, i) => {
      floats[at * numbers.length + i] = values[name] as number;
    });
    dates.forEach((name, i) => {
      times[at * dates.length + i] = BigInt(Date.parse(values[name] as string));
    });
    strings.forEach((name, i) => {
      texts[at * strings.length + i] = values[name] as string;
    });
  });
  const feeds: Record<string, Tensor> = { numbers: new Tensor('float32', floats, [rows.length, numbers.length]) };
  if (dates.length > 0) feeds['dates'] = new Tensor('int64', times, [rows.length, dates.length]);
  if (strings.length > 0) feeds['strings'] = new Tensor('string', texts, [rows.length, strings.length]);
  const { output } = await session.run(feeds, ['output']);
  return { output: Array.from(output?.data as Float32Array) };
});
await app.listen({ host: '127.0.0.1', port: 0 });
process.stdout.write(`${JSON.stringify({ port: (app.server.address() as AddressInfo).port })}\n`);

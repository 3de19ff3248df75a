import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { predict, readRows } from '../../../cli/predict.ts';
import { MillraceError } from '../../../contracts/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-rows-'));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

test('rows are an object, an array, or an array under `rows`', () => {
  expect(readRows('{"a": 1}')).toEqual([{ a: 1 }]);
  expect(readRows('[{"a": 1}, {"a": 2}]')).toEqual([{ a: 1 }, { a: 2 }]);
  expect(readRows('{"rows": [{"a": 1}]}')).toEqual([{ a: 1 }]);
});

test('a file holds JSON, or one row a line', () => {
  const json = join(folder, 'rows.json');
  const lines = join(folder, 'rows.jsonl');
  writeFileSync(json, '[{"a": 1}]');
  writeFileSync(lines, '{"a": 1}\n{"a": 2}\n');
  expect(readRows(json)).toEqual([{ a: 1 }]);
  expect(readRows(lines)).toEqual([{ a: 1 }, { a: 2 }]);
});

test('each thing that is no row is named', () => {
  expect(() => readRows('[{"a": 1}, 2, [3]]')).toThrow(
    expect.objectContaining({
      code: 'INVALID_REQUEST',
      problems: [expect.objectContaining({ path: 'rows[1]' }), expect.objectContaining({ path: 'rows[2]' })],
    }),
  );
  expect(() => readRows('{a: 1}')).toThrow(expect.objectContaining({ code: 'INVALID_REQUEST' }));
  expect(() => readRows(join(folder, 'none.json'))).toThrow(expect.objectContaining({ code: 'SOURCE_NOT_FOUND' }));
});

async function listening(answer: { readonly status: number; readonly body: string }): Promise<{ readonly server: Server; readonly url: string }> {
  const server = createServer((_request, response) => {
    response.writeHead(answer.status, { 'content-type': 'application/json' }).end(answer.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return { server, url: `http://127.0.0.1:${address.port}` };
}

test("the server's refusal comes back as its report", async () => {
  const report = new MillraceError('INVALID_REQUEST', 'The request does not fit.', { problems: [{ path: 'rows[0].origin', message: 'is missing' }] }).report();
  const { server, url } = await listening({ status: 400, body: JSON.stringify({ error: 'text', ...report, requestId: 'r' }) });
  await expect(predict({ urls: { api: '', serving: url }, token: undefined }, 'e', [{}])).rejects.toMatchObject(report);
  server.close();
});

test('a server that does not answer is said to be so', async () => {
  const { server, url } = await listening({ status: 200, body: '{}' });
  await new Promise((resolve) => server.close(resolve));
  await expect(predict({ urls: { api: '', serving: url }, token: undefined }, 'e', [{}])).rejects.toMatchObject({ code: 'SERVER_UNAVAILABLE' });
});

// A generator of load as a process: the load as JSON on stdin; on stdout lines of JSON, `{"progress": 0.5}` and at last `{"result": …}`.
import { type OpenLoad, runOpenLoad } from './open-load.ts';

let text = '';
for await (const chunk of process.stdin.setEncoding('utf8') as AsyncIterable<string>) text += chunk;
const result = await runOpenLoad(JSON.parse(text) as OpenLoad, (progress) => {
  process.stdout.write(`${JSON.stringify({ progress })}\n`);
});
process.stdout.write(`${JSON.stringify({ result })}\n`);

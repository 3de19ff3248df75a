// A load generator as a process: the load as JSON on stdin, the result as JSON on stdout.
import { type HttpLoad, runHttpLoad } from './http-load.ts';

let text = '';
for await (const chunk of process.stdin.setEncoding('utf8') as AsyncIterable<string>) text += chunk;
process.stdout.write(JSON.stringify(await runHttpLoad(JSON.parse(text) as HttpLoad)));

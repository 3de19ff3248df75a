/** HTTP/1.1 as bytes, for generators of load: parsing less than a client does leaves the processor to the server. */

/** A POST of JSON as bytes on the wire. */
export function httpPost(path: string, host: string, body: string): string {
  return `POST ${path} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

const HEAD_END = Buffer.from('\r\n\r\n');

/** Where the first answer in `bytes` ends; 0 when it is not whole. Only answers with Content-Length are understood. */
export function answerEnd(bytes: Buffer): number {
  const head = bytes.indexOf(HEAD_END);
  if (head < 0) return 0;
  const text = bytes.toString('latin1', 0, head).toLowerCase();
  const at = text.indexOf('content-length:');
  if (at < 0) throw new Error('an answer without Content-Length');
  const end = head + HEAD_END.length + Number.parseInt(text.slice(at + 'content-length:'.length), 10);
  return bytes.length >= end ? end : 0;
}

/** The status of an answer. */
export const answerStatus = (bytes: Buffer): string => bytes.toString('latin1', 9, 12);

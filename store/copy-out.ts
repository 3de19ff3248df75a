import type { Readable, Writable } from 'node:stream';
import type pg from 'pg';

/** What pg calls of a statement that is submitted as an object; see copy-in.ts. */
interface Connection {
  readonly stream: Readable;
  query(text: string): void;
}

/** Runs a `COPY … TO STDOUT` into a stream, which stays open. Answers with the number of rows. The server waits for a stream that is slow. */
export function copyOut(client: pg.ClientBase, statement: string, into: Writable): Promise<number> {
  return new Promise<number>((resolve, reject) => {
    let rows = 0;
    let failure: Error | undefined;
    let connected: Connection | undefined;
    let isWaiting = false;
    const fail = (error: Error): void => {
      failure ??= error;
      // what still comes is read and dropped, so that the connection ends its statement
      connected?.stream.resume();
    };
    into.once('error', fail);
    const submitted = {
      submit(connection: Connection) {
        connected = connection;
        connection.query(statement);
      },
      handleCopyData({ chunk }: { readonly chunk: Buffer }) {
        // a copy: the driver puts what it receives next where this chunk lies, while the stream still holds it
        if (failure !== undefined || into.write(Buffer.from(chunk)) || isWaiting) return;
        // chunks that were received already still come
        isWaiting = true;
        connected?.stream.pause();
        into.once('drain', () => {
          isWaiting = false;
          connected?.stream.resume();
        });
      },
      handleCommandComplete(message: { readonly text: string }) {
        rows = Number(/^COPY (\d+)/.exec(message.text)?.[1] ?? 0);
      },
      handleError(error: Error) {
        failure ??= error;
        reject(failure);
      },
      handleReadyForQuery() {
        into.off('error', fail);
        // the end may come with the last chunk, while that is still waited for: who ends its stream then never tells of a drain
        connected?.stream.resume();
        if (failure === undefined) resolve(rows);
        else reject(failure);
      },
      handleRowDescription: () => undefined,
      handleDataRow: () => undefined,
      handlePortalSuspended: () => undefined,
      handleEmptyQuery: () => undefined,
      handleCopyInResponse: () => undefined,
    };
    client.query(submitted as unknown as pg.Submittable);
  });
}

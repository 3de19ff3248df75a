import { createReadStream } from 'node:fs';
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import type pg from 'pg';

/** What pg calls of a statement that is submitted as an object: https://github.com/brianc/node-postgres/blob/master/packages/pg/lib/client.js */
interface Connection {
  readonly stream: Writable;
  query(text: string): void;
  sendCopyFromChunk(chunk: Uint8Array): void;
  endCopyFrom(): void;
  sendCopyFail(message: string): void;
}

const CHUNK_BYTES = 256 * 1024;

/** Runs a `COPY … FROM STDIN` with a file's bytes. Answers with the number of rows. The connection can be used again, whatever came of it. */
export function copyIn(client: pg.PoolClient, statement: string, path: string, signal?: AbortSignal): Promise<number> {
  return new Promise<number>((resolve, reject) => {
    let rows = 0;
    let failure: Error | undefined;
    const send = async (connection: Connection): Promise<void> => {
      try {
        for await (const chunk of createReadStream(path, {
          highWaterMark: CHUNK_BYTES,
          ...(signal === undefined ? {} : { signal }),
        }) as AsyncIterable<Buffer>) {
          if (failure !== undefined) return;
          connection.sendCopyFromChunk(chunk);
          // a server that reads slowly is waited for; one that has gone ends the wait by the stream's close
          if (connection.stream.writableNeedDrain) await Promise.race([once(connection.stream, 'drain'), once(connection.stream, 'close')]);
        }
        connection.endCopyFrom();
      } catch (error) {
        failure ??= error instanceof Error ? error : new Error(String(error));
        connection.sendCopyFail('the rows could not be read');
      }
    };
    const submitted = {
      submit(connection: Connection) {
        connection.query(statement);
      },
      handleCopyInResponse(connection: Connection) {
        void send(connection);
      },
      handleCommandComplete(message: { readonly text: string }) {
        rows = Number(/^COPY (\d+)/.exec(message.text)?.[1] ?? 0);
      },
      handleError(error: Error) {
        failure ??= error;
        // pg tells nothing more when the connection itself has gone
        reject(failure);
      },
      handleReadyForQuery() {
        if (failure === undefined) resolve(rows);
        else reject(failure);
      },
      handleRowDescription: () => undefined,
      handleDataRow: () => undefined,
      handlePortalSuspended: () => undefined,
      handleEmptyQuery: () => undefined,
      handleCopyData: () => undefined,
    };
    client.query(submitted as unknown as pg.Submittable);
  });
}

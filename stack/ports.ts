import { createServer } from 'node:net';

function listen(port: number, host: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => {
      resolve(undefined);
    });
    server.listen({ port, host, exclusive: true }, () => {
      const address = server.address();
      server.close(() => {
        resolve(typeof address === 'object' && address !== null ? address.port : undefined);
      });
    });
  });
}

/** Whether a server could listen on that port now. */
export async function isPortFree(port: number, host = '127.0.0.1'): Promise<boolean> {
  return (await listen(port, host)) !== undefined;
}

/** A port on which nothing listens, chosen by the system. Another process may take it before it is used. */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  const port = await listen(0, host);
  if (port === undefined) throw new Error(`no free port on ${host}`);
  return port;
}

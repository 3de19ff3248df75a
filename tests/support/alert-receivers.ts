import { createServer, type IncomingHttpHeaders } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';

interface Received {
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** Answers by what `answers` says: a status, or never; when it is used up, 200. Ends with the test. */
export async function webhookReceiver(answers: (number | 'hang')[]): Promise<{ readonly url: string; readonly received: Received[] }> {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      received.push({ headers: request.headers, body: Buffer.concat(parts).toString() });
      const answer = answers.shift() ?? 200;
      if (answer !== 'hang') response.writeHead(answer).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/hook`, received };
}

/** Speaks enough SMTP to take a message; the first `refuse` recipients are answered with 451. Ends with the test. */
export async function mailServer(refuse: number): Promise<{ readonly url: string; readonly messages: string[] }> {
  const messages: string[] = [];
  const sockets = new Set<Socket>();
  let refused = 0;
  const server = createTcpServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined); // a client that leaves early
    socket.setEncoding('utf8');
    let pending = '';
    let message: string[] | undefined;
    socket.write('220 test\r\n');
    socket.on('data', (text: string) => {
      pending += text;
      for (let end = pending.indexOf('\r\n'); end !== -1; end = pending.indexOf('\r\n')) {
        const line = pending.slice(0, end);
        pending = pending.slice(end + 2);
        if (message !== undefined) {
          if (line !== '.') message.push(line);
          else {
            messages.push(message.join('\n'));
            message = undefined;
            socket.write('250 taken\r\n');
          }
        } else if (/^rcpt/i.test(line) && refused++ < refuse) socket.write('451 later\r\n');
        else if (/^data/i.test(line)) {
          message = [];
          socket.write('354 go on\r\n');
        } else if (/^quit/i.test(line)) socket.end('221 bye\r\n');
        else socket.write('250 ok\r\n');
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { url: `smtp://127.0.0.1:${String((server.address() as AddressInfo).port)}`, messages };
}

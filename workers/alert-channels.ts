import { createHmac } from 'node:crypto';
import { createTransport } from 'nodemailer';
import { type AlertChannel, type AlertLine, type AlertMessage, WAITING_KINDS } from '../contracts/alerts.ts';
import { postJson } from './post-json.ts';

/** Slack refuses what is longer than 40,000. */
const SLACK_CHARACTERS = 39_000;

type Environment = Readonly<Record<string, string | undefined>>;

export interface AlertToSend {
  /** The same for each attempt: a receiver that saw it may drop it. */
  readonly key: string;
  readonly message: AlertMessage;
  /** Where the API answers, without a slash at the end. */
  readonly apiUrl: string;
}

/** A channel did not take a message; `message` names no secret. */
export class ChannelFailure extends Error {
  override readonly name = 'ChannelFailure';
}

/**
 * Sends one message through one channel; resolves when the receiver has taken it.
 * @throws ChannelFailure within the channel's time
 */
export async function sendAlert(channel: AlertChannel, alert: AlertToSend, env: Environment): Promise<void> {
  const secret = (variable: string): string => {
    const value = env[variable];
    if (!value) throw new ChannelFailure(`The variable ${variable} is not set where the orchestrator runs.`);
    return value;
  };
  if (channel.kind === 'webhook') {
    const addressOf = (path: string): string => `${alert.apiUrl}${path}`;
    const { alerts, ...message } = alert.message;
    const lines = alerts?.map((line) => ({ ...line, look: addressOf(line.look) }));
    const body = JSON.stringify({ key: alert.key, ...message, look: addressOf(message.look), ...(lines === undefined ? {} : { alerts: lines }) });
    const timestamp = String(Math.floor(Date.now() / 1000));
    const signed = channel.secretVariable === undefined ? {} : { 'x-millrace-signature': signature(secret(channel.secretVariable), timestamp, body) };
    return post(channel.url, body, { 'idempotency-key': alert.key, 'x-millrace-timestamp': timestamp, ...signed }, channel.timeoutMs);
  }
  if (channel.kind === 'slack') {
    const url = secret(channel.urlVariable);
    if (!/^https?:\/\//.test(url)) throw new ChannelFailure(`The variable ${channel.urlVariable} holds no address.`);
    return post(url, JSON.stringify({ text: slackText(alert) }), {}, channel.timeoutMs);
  }
  return mail(channel, alert, channel.passwordVariable === undefined ? undefined : secret(channel.passwordVariable));
}

/** What a webhook's receiver computes to know that a message is ours and fresh: `v1=` and the HMAC-SHA256, hex, of `timestamp.body`. */
export const signature = (secret: string, timestamp: string, body: string): string =>
  `v1=${createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex')}`;

async function post(url: string, body: string, headers: Readonly<Record<string, string>>, timeoutMs: number): Promise<void> {
  const why = await postJson(url, body, headers, timeoutMs);
  if (why !== null) throw new ChannelFailure(why);
}

function lineText(line: AlertLine, apiUrl: string): readonly string[] {
  const { endpoint, pipeline } = line;
  const where = endpoint !== null ? ` at ${endpoint}` : pipeline !== null ? ` of ${pipeline}` : '';
  if (line.state === 'recovered') {
    const lasted = [`Lasted from ${line.since} to ${line.ended ?? 'now'}.`, `Look: ${apiUrl}${line.look}`];
    return line.because == null
      ? [`[recovered] ${line.kind}${where}: ${line.what}`, ...lasted]
      : [`[closed] ${line.kind}${where}: ${line.what}`, `Not recovered: ${line.because}.`, ...lasted];
  }
  const waits = WAITING_KINDS.includes(line.kind) && line.severity === 'info';
  return [
    `[${line.severity}] ${line.kind}${where}: ${line.what}`,
    `Since ${line.since}${line.until === null ? '' : `, until ${line.until}`}.`,
    ...(line.against === null ? [] : [`Against: ${line.against}`]),
    ...(line.sure === null ? [] : [`How sure: ${line.sure}`]),
    `Look: ${apiUrl}${line.look}`,
    `${waits ? 'Answer' : 'Closer'}: ${line.command}`,
    ...(waits ? [] : [`Quiet: millrace alerts ack ${String(line.id)} --comment TEXT`]),
  ];
}

function lines({ message, apiUrl }: AlertToSend): readonly string[] {
  const { alerts = [], more = 0 } = message;
  if (alerts.length === 0)
    return [
      message.what,
      `Since ${message.since}${message.until === null ? '' : `, until ${message.until}`}.`,
      `Look: ${apiUrl}${message.look}`,
      `Answer: ${message.command}`,
    ];
  return [
    ...(alerts.length + more > 1 ? [message.what] : []),
    ...alerts.flatMap((line, at) => [...(at > 0 || alerts.length + more > 1 ? [''] : []), ...lineText(line, apiUrl)]),
    ...(more > 0 ? ['', `And ${String(more)} more: millrace alerts list`] : []),
  ];
}

/** Slack's marks are text here. */
const slackText = (alert: AlertToSend): string =>
  lines(alert)
    .map((line) => line.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;'))
    .join('\n')
    .slice(0, SLACK_CHARACTERS);

async function mail(channel: AlertChannel & { kind: 'email' }, alert: AlertToSend, password: string | undefined): Promise<void> {
  const { hostname, port, protocol } = new URL(channel.smtp);
  const secure = protocol === 'smtps:';
  const transport = createTransport({
    host: hostname,
    port: port === '' ? (secure ? 465 : 587) : Number(port),
    secure,
    ...(channel.user === undefined ? {} : { auth: { user: channel.user, pass: password ?? '' } }),
    connectionTimeout: channel.timeoutMs,
    greetingTimeout: channel.timeoutMs,
    socketTimeout: channel.timeoutMs,
  });
  let timer: NodeJS.Timeout | undefined;
  try {
    const sent = transport.sendMail({
      from: channel.from,
      to: [...channel.to],
      subject: `Millrace: ${alert.message.what}`.slice(0, 200),
      text: `${lines(alert).join('\n')}\n`,
      messageId: `<${alert.key.replaceAll(/[^a-zA-Z0-9.-]/g, '.')}@millrace>`,
    });
    // each of nodemailer's own limits is for one silence: a server that drips would be waited for
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new ChannelFailure(`The mail server did not take it within ${String(channel.timeoutMs)} ms.`));
      }, channel.timeoutMs);
    });
    await Promise.race([sent, late]);
  } catch (error) {
    if (error instanceof ChannelFailure) throw error;
    const code =
      error instanceof Error && 'responseCode' in error && typeof error.responseCode === 'number' ? ` It answered ${String(error.responseCode)}.` : '';
    throw new ChannelFailure(`The mail server did not take the message.${code}`);
  } finally {
    clearTimeout(timer);
    transport.close();
  }
}

import { get } from 'node:https';

const TIMEOUT_MS = 2_000;

/** Whether a server of ours on this machine answers 200 at `url`. Its certificate is for others: this machine asks by address. */
export async function answersOk(url: string): Promise<boolean> {
  try {
    if (!url.startsWith('https:')) return (await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) })).ok;
    return await new Promise<boolean>((resolve, reject) => {
      get(url, { rejectUnauthorized: false, timeout: TIMEOUT_MS, agent: false }, (answer) => {
        answer.resume();
        resolve(answer.statusCode === 200);
      })
        .on('timeout', () => resolve(false))
        .on('error', reject);
    });
  } catch {
    return false;
  }
}

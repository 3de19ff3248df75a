/**
 * Sends JSON to a receiver and waits until it has taken it; redirects are not followed.
 *
 * @returns null when it was taken, else why not: a sentence that names no address and no secret
 */
export async function postJson(url: string, body: string, headers: Readonly<Record<string, string>>, timeoutMs: number): Promise<string | null> {
  try {
    const answer = await fetch(url, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json', ...headers },
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMs),
    });
    // the answer's text is of no use, and may be endless
    await answer.body?.cancel();
    return answer.ok ? null : `The receiver answered ${String(answer.status)}.`;
  } catch (error) {
    return error instanceof Error && error.name === 'TimeoutError' ? `No answer within ${String(timeoutMs)} ms.` : 'The receiver could not be reached.';
  }
}

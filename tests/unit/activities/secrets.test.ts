import { describe, expect, it } from 'vitest';
import { resolveSecrets } from '../../../activities/secrets.ts';
import { MillraceError } from '../../../contracts/errors.ts';
import { secret } from '../../../contracts/secrets.ts';

const ENV = { SECRET_KEY: 'hunter2-hunter2', SECRET_LONG: 'hunter2-hunter2-and-more', SECRET_QUOTED: 'a"b\\c', DATABASE_URL: 'postgres://u:p@h/d' };

describe('a secret', () => {
  it('is only its name in what a pipeline gives', () => {
    expect(secret('KEY')).toBe('{{secret:KEY}}');
    for (const name of ['', 'key', '1KEY', 'A-B', 'A}}']) expect(() => secret(name)).toThrow(RangeError);
  });

  it('is looked up wherever it stands, and nothing else is touched', () => {
    const date = new Date(0);
    const { value } = resolveSecrets([{ a: [secret('KEY'), 'x {{secret:KEY}}', 7, null, date] }], ENV);
    expect(value).toEqual([{ a: ['hunter2-hunter2', 'x {{secret:KEY}}', 7, null, date] }]);
  });

  it('is looked up in variables of secrets only, and every one that is missing is named', () => {
    const missing = (): unknown => resolveSecrets({ a: secret('NONE'), b: [secret('DATABASE_URL')] }, ENV);
    expect(missing).toThrow(MillraceError);
    try {
      missing();
    } catch (error) {
      expect((error as MillraceError).report()).toMatchObject({ code: 'SECRET_MISSING', problems: [{ path: 'SECRET_NONE' }, { path: 'SECRET_DATABASE_URL' }] });
    }
  });

  it('is taken out of results, also where JSON has it with escapes and where one holds another', () => {
    const { mask } = resolveSecrets([secret('KEY'), secret('LONG'), secret('QUOTED')], ENV);
    expect(mask({ a: ['it is hunter2-hunter2-and-more', ENV.SECRET_QUOTED], 'hunter2-hunter2': JSON.stringify(ENV) })).toEqual({
      a: ['it is ***', '***'],
      '***': JSON.stringify({ ...ENV, SECRET_KEY: '***', SECRET_LONG: '***', SECRET_QUOTED: '***' }),
    });
    expect(resolveSecrets('none', ENV).mask(date)).toBe(date);
  });
  const date = new Date(0);

  it('is taken out of what the work fails with', async () => {
    const { guard } = resolveSecrets(secret('KEY'), ENV);
    const failure = new MillraceError('USER_CODE_FAILED', 'refused hunter2-hunter2', { problems: [{ path: 'x', message: 'hunter2-hunter2 is wrong' }] });
    const report = await guard(() => Promise.reject(failure)).catch((error: unknown) => (error as MillraceError).report());
    expect(report).toMatchObject({ code: 'USER_CODE_FAILED', message: 'refused ***', problems: [{ message: '*** is wrong' }] });
    const other = await guard(() => Promise.reject(new Error('with hunter2-hunter2'))).catch((error: unknown) => error as Error);
    expect([other.message, other.stack?.includes('hunter2')]).toEqual(['with ***', false]);
  });
});

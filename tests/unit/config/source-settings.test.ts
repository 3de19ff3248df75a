import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../../config/config.ts';
import { sourceSettings } from '../../../config/source-settings.ts';

describe('settings of sources', () => {
  test('give the value of a variable that begins with SOURCE_, and of no other', () => {
    const { secret } = sourceSettings({ SOURCE_TOKEN: 'word', MILLRACE_HASH_KEY: 'Secret7', SOURCE_EMPTY: '' });
    expect(secret('SOURCE_TOKEN')).toBe('word');
    for (const name of ['MILLRACE_HASH_KEY', 'SOURCE_EMPTY', 'SOURCE_OTHER'])
      expect(() => secret(name)).toThrow(expect.objectContaining({ code: 'SOURCE_NOT_FOUND', message: expect.stringContaining(name) as string }));
  });

  test('name the store and its region as the tools of AWS do', () => {
    expect(sourceSettings({ S3_ENDPOINT: 'http://store:9000', AWS_DEFAULT_REGION: 'eu-west-1' }).s3).toEqual({
      endpoint: 'http://store:9000',
      region: 'eu-west-1',
    });
    expect(sourceSettings({ AWS_REGION: 'eu-west-2', AWS_DEFAULT_REGION: 'eu-west-1' }).s3).toEqual({ region: 'eu-west-2' });
    expect(sourceSettings({}).s3).toEqual({});
  });

  test('bound what is fetched: 64 GiB, or as many as are stated', () => {
    expect(loadConfig({ env: {} }).spoolBytes).toBe(64 * 1024 ** 3);
    expect(loadConfig({ env: { MILLRACE_SPOOL_GIB: '0.5' } }).spoolBytes).toBe(512 * 1024 ** 2);
    for (const value of ['0', '-1', 'many', '1e3']) {
      expect(() => loadConfig({ env: { MILLRACE_SPOOL_GIB: value } })).toThrow(
        expect.objectContaining({ code: 'INVALID_CONFIG', problems: [expect.objectContaining({ path: 'MILLRACE_SPOOL_GIB', found: value })] }),
      );
    }
  });
});

import { valueStep } from 'millrace/steps';

export const noop = valueStep((n: number) => n);

import { valueStep } from 'millrace/steps';
import { answerText } from './answer-text.ts';

export const answer = valueStep(() => answerText);

export const device = valueStep(() => 'done');

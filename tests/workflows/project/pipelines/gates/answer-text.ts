export const answerText = 'first code';

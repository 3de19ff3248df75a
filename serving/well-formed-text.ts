/** The text with each half of a surrogate pair that stands alone replaced by U+FFFD: strict readers refuse it in JSON. */
export const wellFormed = (text: string): string => text.replace(/\p{Surrogate}/gu, '\ufffd');

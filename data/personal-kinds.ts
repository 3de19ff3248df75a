/** How personal values are told from others, value by value. What has a check digit is held against it. */
import type { PersonalKind } from '../contracts/personal-data.ts';

export interface PersonalPattern {
  readonly kind: PersonalKind;
  /** Words of a column's name that make the kind likely. */
  readonly words: readonly string[];
  /** Whether a whole value is of the kind, beyond doubt as far as one value can be. */
  readonly is: (value: string) => boolean;
  /** The same, of a column whose name says so already: forms that anything else could have too. */
  readonly isWhenNamed?: (value: string) => boolean;
  /** Whether chance gives such values too: then a few are needed. */
  readonly byChance: boolean;
}

const LOCAL = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*";
const DOMAIN = '(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\\.)+[A-Za-z]{2,24}';
const EMAIL = new RegExp(`^(?:mailto:)?<?${LOCAL}@${DOMAIN}>?$`);
/** Looked for around each `@`: text of any length is read once. */
const LOCAL_END = /[A-Za-z0-9_%+-]$/;
const DOMAIN_START = new RegExp(`^${DOMAIN}(?![A-Za-z0-9@])`);
const LONGEST_DOMAIN = 255;
const LONGEST_EMAIL = 254;

/** Whether a text has an e-mail address in it. */
export function containsEmail(text: string): boolean {
  for (let at = text.indexOf('@'); at !== -1; at = text.indexOf('@', at + 1)) {
    if (at > 0 && LOCAL_END.test(text.slice(at - 1, at)) && DOMAIN_START.test(text.slice(at + 1, at + 1 + LONGEST_DOMAIN))) return true;
  }
  return false;
}

const digitsOf = (value: string): string => value.replace(/\D/g, '');

/** The check of payment cards (ISO/IEC 7812-1, annex B): every second digit from the right but one is doubled. */
export function passesLuhn(digits: string): boolean {
  let sum = 0;
  for (let index = 0; index < digits.length; index++) {
    const digit = Number(digits[digits.length - 1 - index]);
    const doubled = index % 2 === 1 ? 2 * digit : digit;
    sum += doubled > 9 ? doubled - 9 : doubled;
  }
  return sum % 10 === 0;
}

/** Issuers' leading digits with the lengths of their numbers: Visa, Mastercard, American Express, Discover, JCB, UnionPay, Diners Club. */
const CARD =
  /^(?:4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}|6(?:011|4[4-9]\d|5\d\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}|3(?:0[0-5]|[68]\d)\d{11})$/;
const isCard = (value: string): boolean => {
  if (!/^\d(?:[ -]?\d){12,18}$/.test(value)) return false;
  const digits = digitsOf(value);
  return CARD.test(digits) && passesLuhn(digits);
};

const EXTENSION = '(?: ?(?:x|ext\\.?) ?\\d{1,6})?';
const INTERNATIONAL = new RegExp(`^(?:tel:)?\\+[1-9]\\d{0,2}(?:[ ().\\/-]{0,2}\\d){6,13}${EXTENSION}$`, 'i');
const NORTH_AMERICAN = new RegExp(`^(?:1[ .-])?(?:\\([2-9]\\d{2}\\) ?|[2-9]\\d{2}[ .-])[2-9]\\d{2}[ .-]\\d{4}${EXTENSION}$`, 'i');
const isPhone = (value: string): boolean => INTERNATIONAL.test(value) || NORTH_AMERICAN.test(value);
const DATE = /^\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|^\d{1,2}[-/.]\d{1,2}[-/.]\d{4}$/;
const isPhoneWhenNamed = (value: string): boolean => {
  if (isPhone(value)) return true;
  const digits = digitsOf(value);
  return /^[+(]?\d[\d ()./-]*$/.test(value) && digits.length >= 7 && digits.length <= 15 && !DATE.test(value);
};

/** Areas, groups and serials that the Social Security Administration never gives out. */
const SSN = /^(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}$/;
const SSN_BARE = /^(?!000|666|9)\d{3}(?!00)\d{2}(?!0000)\d{4}$/;
const NINO = /^(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]$/i;

const DNI_LETTERS = 'TRWAGMYFPDXBNJZSQVHLCKE';
/** Spanish identity numbers of citizens and of foreigners: a letter for the remainder by 23. */
function isSpanishId(value: string): boolean {
  const parts = /^([XYZ]?)-?(\d{7,8})[ -]?([A-Z])$/i.exec(value);
  if (parts === null) return false;
  const [, foreign = '', digits = '', letter = ''] = parts;
  if (digits.length !== (foreign === '' ? 8 : 7)) return false;
  const leading = foreign === '' ? '' : String('XYZ'.indexOf(foreign.toUpperCase()));
  return DNI_LETTERS[Number(leading + digits) % 23] === letter.toUpperCase();
}

const CODICE = /^[A-Z]{6}[0-9L-NP-V]{2}[A-EHLMPRST][0-9L-NP-V]{2}[A-Z][0-9L-NP-V]{3}[A-Z]$/;
/** What a character at an odd place counts, from `0`/`A` on (decree of 23 December 1976). */
const CODICE_ODD = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
function isCodiceFiscale(value: string): boolean {
  const code = value.replaceAll(' ', '').toUpperCase();
  if (!CODICE.test(code)) return false;
  let sum = 0;
  for (const [index, character] of [...code.slice(0, 15)].entries()) {
    const place = character >= 'A' ? character.charCodeAt(0) - 65 : Number(character);
    sum += index % 2 === 0 ? (CODICE_ODD[place] ?? 0) : place;
  }
  return String.fromCharCode(65 + (sum % 26)) === code[15];
}

/** French social security number: the key is 97 less the remainder of the number by 97; Corsica's letters count as 19 and 18. */
function isNir(value: string): boolean {
  const number = value.replaceAll(' ', '').toUpperCase();
  if (!/^[1-478]\d{2}(?:0[1-9]|1[0-2]|[2-9]\d)(?:\d{2}|2A|2B)\d{6}\d{2}$/.test(number)) return false;
  const body = number.slice(0, 13).replace('2A', '19').replace('2B', '18');
  return 97n - (BigInt(body) % 97n) === BigInt(number.slice(13));
}

/** ISO 13616: rearranged and with letters as numbers from 10 on, the remainder by 97 is 1. */
function isIban(value: string): boolean {
  const iban = value.replaceAll(' ', '').toUpperCase();
  if (!/^[A-Z]{2}\d{2}[A-Z0-9]{11,30}$/.test(iban)) return false;
  let remainder = 0;
  for (const character of iban.slice(4) + iban.slice(0, 4)) {
    const number = Number.parseInt(character, 36);
    remainder = (remainder * (number > 9 ? 100 : 10) + number) % 97;
  }
  return remainder === 1;
}

const ID_WORDS = ['national', 'nationalid', 'identity', 'taxid', 'idnumber', 'personalid'];

/** In this order: a value of two kinds counts for the first. */
export const PERSONAL_PATTERNS: readonly PersonalPattern[] = [
  { kind: 'email', words: ['email', 'mail'], is: (value) => value.length <= LONGEST_EMAIL && EMAIL.test(value), byChance: false },
  { kind: 'iban', words: ['iban', 'account', 'bank'], is: isIban, byChance: false },
  { kind: 'codiceFiscale', words: [...ID_WORDS, 'codice', 'fiscale', 'cf'], is: isCodiceFiscale, byChance: false },
  { kind: 'nino', words: [...ID_WORDS, 'nino', 'insurance', 'ni'], is: (value) => NINO.test(value), byChance: false },
  { kind: 'dni', words: [...ID_WORDS, 'dni', 'nie', 'nif'], is: isSpanishId, byChance: false },
  { kind: 'nir', words: [...ID_WORDS, 'nir', 'insee', 'secu'], is: isNir, byChance: true },
  { kind: 'card', words: ['card', 'cc', 'pan', 'creditcard', 'cardnumber', 'visa', 'mastercard'], is: isCard, byChance: true },
  {
    kind: 'ssn',
    words: ['ssn', 'socialsecurity', 'social', ...ID_WORDS],
    is: (value) => SSN.test(value),
    isWhenNamed: (value) => SSN.test(value) || SSN_BARE.test(value),
    byChance: true,
  },
  {
    kind: 'phone',
    words: ['phone', 'telephone', 'tel', 'mobile', 'cellphone', 'fax', 'gsm', 'msisdn', 'handy', 'telefon', 'telefono', 'phonenumber', 'whatsapp'],
    is: isPhone,
    isWhenNamed: isPhoneWhenNamed,
    byChance: true,
  },
];

/** The words of a column's name, in lower case, and the name as one word: `customerEmail` has customer and email. */
export function wordsOf(name: string): ReadonlySet<string> {
  const words = name
    .replace(/(\p{Ll}|\d)(\p{Lu})/gu, '$1 $2')
    .split(/[^\p{L}]+/u)
    .filter((word) => word !== '')
    .map((word) => word.toLowerCase());
  return new Set([...words, ...words.map((word, index) => word + (words[index + 1] ?? '')), words.join('')]);
}

// Lint: typescript-eslint's strictTypeChecked over everything that is compiled or tested, and a short list of core rules
// over the plain scripts. What this is for above all: `no-floating-promises` is the one check that sees a lost `await` on
// a proxied activity, which otherwise runs, is forgotten, and fails nowhere. Format is Biome's matter, not ESLint's.
import tseslint from 'typescript-eslint';

/** Mistakes that need no types to be seen. ESLint's own recommended set is a package of its own; these are the ones that catch bugs. */
const CORE_RULES = {
  'array-callback-return': ['error', { allowImplicit: true }],
  'constructor-super': 'error',
  'default-case-last': 'error',
  eqeqeq: ['error', 'always', { null: 'ignore' }],
  'for-direction': 'error',
  'getter-return': 'error',
  'no-async-promise-executor': 'error',
  'no-compare-neg-zero': 'error',
  'no-cond-assign': 'error',
  'no-constant-binary-expression': 'error',
  'no-constant-condition': ['error', { checkLoops: false }],
  'no-debugger': 'error',
  'no-dupe-else-if': 'error',
  'no-dupe-keys': 'error',
  'no-duplicate-case': 'error',
  'no-empty': 'error',
  'no-fallthrough': 'error',
  'no-irregular-whitespace': 'error',
  'no-loss-of-precision': 'error',
  'no-promise-executor-return': 'off',
  'no-self-assign': 'error',
  'no-sparse-arrays': 'error',
  'no-template-curly-in-string': 'error',
  'no-unmodified-loop-condition': 'error',
  'no-unreachable': 'error',
  'no-unreachable-loop': 'error',
  'no-unsafe-finally': 'error',
  'no-unsafe-negation': 'error',
  'no-unsafe-optional-chaining': 'error',
  'no-unused-labels': 'error',
  'no-useless-catch': 'error',
  'no-useless-escape': 'error',
  'no-var': 'error',
  'object-shorthand': 'error',
  'prefer-const': ['error', { destructuring: 'all' }],
  'use-isnan': 'error',
  'valid-typeof': 'error',
};

const UNUSED = { argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrors: 'all', caughtErrorsIgnorePattern: '^_', ignoreRestSiblings: true };

const NODE_GLOBALS = Object.fromEntries(
  [
    'process',
    'console',
    'Buffer',
    'URL',
    'fetch',
    'AbortController',
    'AbortSignal',
    'setTimeout',
    'clearTimeout',
    'setInterval',
    'clearInterval',
    'setImmediate',
    'performance',
    'structuredClone',
  ].map((name) => [name, 'readonly']),
);

export default tseslint.config(
  { ignores: ['dist/**', 'node_modules/**', '.millrace/**', 'coverage/**', 'store/migrations/**', 'tests/replay/histories/**'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: { allowDefaultProject: ['vitest.config.ts', 'drizzle.config.ts'] } } },
    rules: {
      ...CORE_RULES,
      '@typescript-eslint/consistent-type-imports': 'error',
      // `import { type X } from './io.ts'` stays an import of that file when types are erased; `import type` does not.
      '@typescript-eslint/no-import-type-side-effects': 'error',
      // What crosses a workflow or a socket is awaited or marked `void` with intent; nothing else is allowed to be dropped.
      '@typescript-eslint/no-floating-promises': ['error', { ignoreVoid: true }],
      '@typescript-eslint/no-unused-vars': ['error', UNUSED],
      // `${count} rows` is how figures are written; other types (objects, undefined, booleans) stay forbidden.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // `() => void call()` says nothing that `() => call()` does not.
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true, ignoreVoidReturningFunctions: true }],
      // `while (true)` with its exit inside is the plain form of a loop that waits for messages.
      '@typescript-eslint/no-unnecessary-condition': ['error', { allowConstantLoopConditions: true }],
      // `[...text]` splits into code points, which is what text columns are made of here.
      '@typescript-eslint/no-misused-spread': ['error', { allow: [{ from: 'lib', name: 'string' }] }],
      // Protobuf's enums (ONNX, Temporal) are plain numbers on the wire, and are written as such.
      '@typescript-eslint/no-unsafe-enum-assignment': 'off',
      // `defineUpdate<void>('pause')` is how Temporal says that a message answers nothing.
      '@typescript-eslint/no-invalid-void-type': 'off',
      '@typescript-eslint/restrict-plus-operands': ['error', { allowNumberAndString: true }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
    },
  },
  {
    files: ['tests/**/*.ts'],
    rules: {
      // A test states what must be there: `rows[0]!.delay` failing loudly is the test failing.
      '@typescript-eslint/no-non-null-assertion': 'off',
      // A double that must have a method's async type has often nothing to await.
      '@typescript-eslint/require-await': 'off',
    },
  },
  {
    // Plain scripts: no types to ask, so only what the text shows.
    files: ['scripts/**/*.mjs', 'bin/**/*.js', 'eslint.config.js', '*.cjs'],
    languageOptions: { globals: { ...NODE_GLOBALS, module: 'writable' } },
    rules: { ...CORE_RULES, 'no-undef': 'error', 'no-unused-vars': ['error', UNUSED] },
  },
);

import { defineConfig } from 'drizzle-kit';

/** `npx drizzle-kit generate --name WHAT` writes the next migration from what store/schema.ts says. */
export default defineConfig({ dialect: 'postgresql', schema: './store/schema.ts', out: './store/migrations', casing: 'snake_case' });

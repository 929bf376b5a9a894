import type { StartedServer } from './postgres.ts';

export default async function globalTeardown(): Promise<void> {
  const { keytetherPostgres } = globalThis as { keytetherPostgres?: StartedServer };
  await keytetherPostgres?.stop();
}

/** Once per run: a PostgreSQL server, its roles, and a migrated template that every test file's database is copied from. */

import { migrate } from '../../src/store/migrate.ts';
import { connectOwner } from '../../src/store/postgres.ts';
import { SERVER_VARIABLE, SERVICE_ROLE, TEMPLATE } from './database.ts';
import { startPostgres } from './postgres.ts';

export default async function globalSetup(): Promise<void> {
  const server = await startPostgres();
  Object.assign(globalThis, { keytetherPostgres: server });
  process.env[SERVER_VARIABLE] = server.url;
  const owner = await connectOwner(`${server.url}/postgres`);
  await owner.exec(`CREATE DATABASE ${TEMPLATE}`);
  await migrate(`${server.url}/${TEMPLATE}`);
  await owner.exec(`CREATE ROLE ${SERVICE_ROLE} LOGIN; GRANT keytether_app TO ${SERVICE_ROLE}`);
  await owner.close();
}

/** Writes `test/schema.sql` from the catalogues of a freshly migrated database: `npm run schema:dump`. */
import { writeFileSync } from 'node:fs';
import type { Executor } from '../../src/store/db.ts';
import { migrate } from '../../src/store/migrate.ts';
import { connectOwner } from '../../src/store/postgres.ts';
import { startPostgres } from './postgres.ts';

export const SCHEMA_FILE = new URL('../schema.sql', import.meta.url);

/** Each query gives the lines of one section, in an order that does not depend on oids or the locale. */
const SECTIONS: readonly (readonly [title: string, sql: string])[] = [
  [
    'roles',
    `SELECT rolname || CASE WHEN rolcanlogin THEN ' login' ELSE ' nologin' END || CASE WHEN rolsuper THEN ' superuser' ELSE '' END
       || CASE WHEN rolbypassrls THEN ' bypassrls' ELSE '' END AS line
     FROM pg_roles WHERE rolname IN ('keytether_app', 'keytether_log') ORDER BY rolname COLLATE "C"`,
  ],
  [
    'schema',
    `SELECT nspname || coalesce(' grants ' || (SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C") FROM unnest(nspacl) a), '')
       || coalesce(E'\n  -- ' || obj_description(oid, 'pg_namespace'), '') AS line
     FROM pg_namespace WHERE nspname = 'keytether'`,
  ],
  [
    'tables',
    `SELECT 'TABLE ' || c.relname || coalesce(' WITH (' || array_to_string(c.reloptions, ', ') || ')', '')
       || CASE WHEN c.relrowsecurity THEN ' row security' ELSE '' END || CASE WHEN c.relforcerowsecurity THEN ' forced' ELSE '' END
       || coalesce(E'\n  -- ' || obj_description(c.oid, 'pg_class'), '')
       || (SELECT string_agg(E'\n  ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
             || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
             || CASE WHEN a.attstorage <> t.typstorage THEN ' storage ' || a.attstorage::text ELSE '' END
             || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')
             || coalesce(' grants ' || (SELECT string_agg(x::text, ' ' ORDER BY x::text COLLATE "C") FROM unnest(a.attacl) x), '')
             || coalesce(' -- ' || col_description(c.oid, a.attnum), ''), '' ORDER BY a.attnum)
           FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
       || coalesce((SELECT string_agg(E'\n  CONSTRAINT ' || n.conname || ' ' || pg_get_constraintdef(n.oid), '' ORDER BY n.conname COLLATE "C")
           FROM pg_constraint n WHERE n.conrelid = c.oid AND n.contype <> 'n'), '')
       || coalesce((SELECT string_agg(E'\n  GRANT ' || x::text, '' ORDER BY x::text COLLATE "C") FROM unnest(c.relacl) x), '') AS line
     FROM pg_class c WHERE c.relnamespace = 'keytether'::regnamespace AND c.relkind = 'r' ORDER BY c.relname COLLATE "C"`,
  ],
  [
    'indexes',
    `SELECT pg_get_indexdef(i.indexrelid) || coalesce(E'\n  -- ' || obj_description(i.indexrelid, 'pg_class'), '') AS line
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE c.relnamespace = 'keytether'::regnamespace ORDER BY c.relname COLLATE "C"`,
  ],
  [
    'policies',
    `SELECT 'POLICY ' || policyname || ' ON ' || tablename || ' ' || permissive || ' FOR ' || cmd || ' TO ' || array_to_string(roles, ', ')
       || E'\n  USING ' || coalesce(qual, '') || E'\n  CHECK ' || coalesce(with_check, '') AS line
     FROM pg_policies WHERE schemaname = 'keytether' ORDER BY tablename COLLATE "C", policyname COLLATE "C"`,
  ],
  [
    'functions',
    `SELECT pg_get_functiondef(p.oid) || 'OWNER ' || CASE WHEN p.proowner = n.nspowner THEN 'of the schema' ELSE pg_get_userbyid(p.proowner) END
       || coalesce((SELECT string_agg(E'\nGRANT ' || x::text, '' ORDER BY x::text COLLATE "C") FROM unnest(p.proacl) x), '')
       || coalesce(E'\n-- ' || obj_description(p.oid, 'pg_proc'), '') AS line
     FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'keytether'
     ORDER BY p.proname COLLATE "C", pg_get_function_identity_arguments(p.oid) COLLATE "C"`,
  ],
];

/** The schema as text. The owner's name, which is the deployment's choice, is written as `owner`. */
export async function dumpSchema(executor: Executor): Promise<string> {
  const [me] = await executor.query<{ name: string }>('SELECT current_user AS name');
  const parts = [
    '-- Made from the catalogues by `npm run schema:dump`; a test fails when a migration changes it.\n',
  ];
  for (const [title, sql] of SECTIONS) {
    const rows = await executor.query<{ line: string }>(sql);
    const lines = rows.map((row) =>
      row.line
        .replaceAll(`${me?.name}=`, 'owner=')
        .replaceAll(`/${me?.name}`, '/owner')
        // What an owner may do grows with the server's version.
        .replace(/\n *GRANT owner=.*/g, '')
        .replace(/ owner=\w+\/owner/g, ''),
    );
    parts.push(`-- ${title}\n\n${lines.join('\n\n')}\n`);
  }
  return parts.join('\n');
}

if (import.meta.main) {
  const server = await startPostgres();
  try {
    const url = `${server.url}/postgres`;
    await migrate(url);
    const owner = await connectOwner(url);
    writeFileSync(SCHEMA_FILE, await dumpSchema(owner));
    await owner.close();
  } finally {
    await server.stop();
  }
}

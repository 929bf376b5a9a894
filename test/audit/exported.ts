/** Exports of small logs, as archives and as the files in them. */

import { EXPORT_FOLDER, type ExportSource, exportLog } from '../../src/audit/export.ts';
import { encodeLeaf, eventIdText, type LeafBody, newEventId } from '../../src/audit/leaf.ts';
import { encodeCheckpoint, type NoteSigner, signNote } from '../../src/audit/note.ts';
import { tarEnd, tarHeader, tarPadding } from '../../src/audit/tar.ts';
import { leafHash, rootOf } from '../../src/audit/tree.ts';

const WRITER = { id: Uint8Array.from({ length: 16 }, (_, at) => at), build: 'keytether/test' };

/** Records of one tenant as the service writes them: the genesis, then uses of keys. */
export function recordsOf(tenant: string, count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, index) => {
    const body: LeafBody =
      index === 0
        ? { typ: 'log.genesis', origin: originOf(tenant) }
        : {
            typ: 'key.use',
            op: 'decrypt',
            act: { id: 'prn_a', role: 'service' },
            req: `request-${index}`,
            sc: 'default',
            pu: 'invoices',
            key: { id: 'key_a', ver: 1 },
            env: [],
            n: 1,
            kref: eventIdText(newEventId(index)),
            out: index % 5 === 0 ? 'denied' : 'ok',
            rsn: index % 5 === 0 ? 'KMS_KEY_DISABLED' : undefined,
            dtl: undefined,
          };
    return encodeLeaf(WRITER, tenant, body).bytes;
  });
}

export function originOf(tenant: string): string {
  return `keytether.test/log/${tenant}`;
}

/** The signed checkpoint of these records. */
export async function checkpointOf(records: readonly Uint8Array[], signer: NoteSigner): Promise<string> {
  const root = rootOf(records.map(leafHash));
  return signNote(encodeCheckpoint({ origin: signer.name, size: records.length, root }), signer);
}

export async function* each<T>(items: Iterable<T>): AsyncGenerator<T> {
  yield* items;
}

export async function archiveOf(source: ExportSource): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of exportLog(source)) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** The files of an export below its folder, in order. */
export type Files = Map<string, Uint8Array>;

export async function filesOf(records: readonly Uint8Array[], signer: NoteSigner): Promise<Files> {
  const checkpoint = await checkpointOf(records, signer);
  return unpack(await archiveOf({ checkpoint, key: signer, leaves: each(records) }));
}

/** Reads our own archives. */
export function unpack(archive: Uint8Array): Files {
  const files: Files = new Map();
  const buffer = Buffer.from(archive);
  for (let at = 0; buffer[at] !== 0; ) {
    const name = buffer.toString('latin1', at, at + 100).replace(/\0.*$/s, '');
    const size = Number.parseInt(buffer.toString('latin1', at + 124, at + 135), 8);
    files.set(name.slice(EXPORT_FOLDER.length + 1), buffer.subarray(at + 512, at + 512 + size));
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}

export function pack(files: Iterable<readonly [string, Uint8Array]>): Buffer {
  const pieces = [...files].flatMap(([name, bytes]) => [
    tarHeader(`${EXPORT_FOLDER}/${name}`, bytes.length),
    bytes,
    tarPadding(bytes.length),
  ]);
  return Buffer.concat([...pieces, tarEnd()]);
}

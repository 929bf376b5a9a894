/** The page that lies in each export, for an auditor who has never seen this program. */
import type { Checkpoint } from './note.ts';

/** Plain text, the same for the same checkpoint. */
export function exportReadme(checkpoint: Checkpoint): string {
  return `Key-usage log: ${checkpoint.origin}
Records: ${checkpoint.size}
Root: ${Buffer.from(checkpoint.root).toString('base64')}

Every use of a data key, every call to the customer's KMS, every refusal and every change by an administrator is one
record of this log. The records are the leaves of a Merkle tree (RFC 6962). The service signs the tree's size and root;
such a signed statement is a checkpoint. The formats are public (c2sp.org: tlog-tiles, tlog-checkpoint, signed-note), so
you can check this log without any program of ours.

WHAT IS HERE

  log/checkpoint         size and root, signed
  log/tile/entries/...   the records: 256 a file, each after its length as two bytes, big-endian. A record is JSON.
  log/tile/0/... and up  the hashes of the tree
  log.vkey               the key that checks the signature, in the form of c2sp.org/signed-note
  log.pem                the same key for OpenSSL
  note.txt, note.sig     the checkpoint's text and its signature, split for OpenSSL
  openings.jsonl         values behind commitments in the records, one a line; empty when there are none

BEFORE YOU START

The key in this archive came with the archive. Whoever forged one could forge the other. Compare log.vkey with the key
that you were given when the tenant was set up, and use that one in the commands below.
Keep log/checkpoint somewhere that the service cannot reach. You will need it next time.

THE CHECKS

1. The whole log, with Tessera's fsck (Go):

     go install github.com/transparency-dev/tessera/cmd/fsck@v1.0.4
     timeout 600 fsck --ui=false --logtostderr --N=16 --storage_url=file://$PWD/log/ --public_key=log.vkey

   It is good when the last line says "Successfully fsck'd log" and nothing says "fsck failed".
   Read the words, not the exit code: version 1.0.4 exits with 0 in both cases. It waits for ever when many more files are
   wrong than --N says; a timeout is a failure.
   It proves: every record stands under the signed root, in this order, and no record below the size is missing.

2. The whole log, with our verifier (one file, Node 22.18 or newer, no packages):

     node verify.ts audit-export.tar --key log.vkey

   It proves what 1 proves, and that the archive holds nothing else, that each record is well-formed, is of this tenant,
   and has an event id of its own. It must never be the only check that you run.

3. That nothing was rewritten since your last visit: give the checkpoint that you kept.

     node verify.ts audit-export.tar --key log.vkey --since kept-checkpoint

   It proves: the log that you saw then is the beginning of this one. This is the only check that finds a log which the
   service itself rewrote and signed again.

4. The signature alone, with OpenSSL 3:

     openssl pkeyutl -verify -pubin -inkey log.pem -rawin -in note.txt -sigfile note.sig

   It proves: the holder of the key signed this size and root. It says nothing about the records.

WHAT NO CHECK HERE PROVES

- That every use was recorded. A tree shows that records were not changed or removed; it cannot show a record that was
  never made. The customer's own KMS log can: compare the records kms.intent and kms.result with it (fields kms.cid and
  kms.rid).
- That the times are right. "t" in a record is the service's own clock.
- That others were shown the same log. Compare the root with theirs, or with a witness's.
- That "ok" reached the caller. It means that the release was authorised.
`;
}

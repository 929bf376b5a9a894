/** The clauses of the KMS contract, word for word as `adapters/README.md` has them. They are the titles of the suite. */
export const CLAUSES = {
  K1: 'What is wrapped unwraps to the same bytes, for every key length we use.',
  K2: 'Wrapping twice gives different bytes.',
  K3: 'Unwrap with any other context fails: a changed, missing, added or empty pair, or names and values split differently. The same pairs in another order succeed.',
  K4: 'Unwrap with a handle on another key fails; the driver always names the key and never lets the blob choose.',
  K5: 'Any one-bit change, truncation or extension of wrapped bytes fails, with the code for bad ciphertext and never a retryable one.',
  K6: 'Wrapped bytes are non-empty and at most 4 kB.',
  K7: "The key id is the vendor's full resource name, non-empty, under 1 kB, equal in _describe_, _wrap_ and config after resolution of aliases.",
  K8: 'After the vendor rotates the key, old wrapped bytes still unwrap and new ones report the new version.',
  K9: 'A disabled key, a key pending deletion, refused permission, throttling, an unknown key and an unreachable host give six different codes; only throttled and unreachable are retryable.',
  K10: 'Abort is honoured: the promise settles promptly and no late result is used.',
  K11: 'Concurrent calls on one handle are safe.',
  K12: 'The driver does not cache, retry, log, read the environment or keep key bytes.',
  K13: 'A hostile key reference (`../`, `?`, `#`, encoded slashes, control characters) is refused before any request.',
  K14: 'No error message contains key bytes, wrapped bytes, credentials or context values.',
  K15: 'close is idempotent; use after close fails.',
} as const;

export type Clause = keyof typeof CLAUSES;

/** Where a record stands, as the caller gets it: checkable against any later checkpoint of the same log. */
export interface Receipt {
  readonly origin: string;
  readonly index: number;
  /** 32 bytes as canonical base64. */
  readonly leafHash: string;
  readonly durability: 'durable' | 'replicated' | 'process';
}

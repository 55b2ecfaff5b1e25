/** The words that the page's scripts share. For the compiler only; it is not served. */

export interface Customer {
  readonly name: string;
  readonly email: string;
  readonly token: string;
}

/** A request as it goes to the shop, but for the headers that the browser adds. */
export interface WireRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
}

export type Outcome =
  | {
      readonly kind: 'answer';
      readonly status: number;
      readonly reason: string;
      readonly headers: Headers;
      readonly body: string;
      readonly ms: number;
    }
  | { readonly kind: 'lost'; readonly ms: number };

export type Cell = string | number | null;

export type Row = Readonly<Record<string, Cell>> & { readonly id: string };

export interface TableRows {
  readonly table: string;
  readonly title: string;
  readonly owner: 'shop' | 'outside';
  readonly columns: Readonly<Record<string, string>>;
  readonly rows: readonly Row[];
}

export interface RecordRow {
  readonly id: string;
  readonly state: string;
  readonly operation: string;
  readonly key: string;
  readonly attempt: number;
  readonly status: number | null;
  readonly lockedUntil: string | null;
  readonly expiresAt: string | null;
  readonly steps: readonly { readonly name: string; readonly result: string }[];
}

export interface PageState {
  readonly records: readonly RecordRow[];
  readonly tables: readonly TableRows[];
}

/**
 * What a visitor does with one key: send it, lose the answer, retry. It ends with a new key. There is
 * one for each story, customer, and side of the switch.
 */
export interface Round {
  key: string;
  /** For stories in which the client makes up the id of what it wants. */
  readonly id: string;
  /** How many requests were sent. */
  sent: number;
  /** What the client wants to happen once, by key or by an id of its own. More than that should not happen. */
  readonly wants: Set<string>;
  /** The tables before the first of them. */
  before: readonly TableRows[];
  /** The rows that have come since, by table. */
  readonly news: Map<string, Row[]>;
  /** What a client would keep between two requests: a reference, an ETag. */
  readonly memory: Map<string, string>;
  /** What the visitor has made of a request's body, by the request's name. */
  readonly drafts: Map<string, Draft>;
  last: Sent | undefined;
  tally: Tally | undefined;
}

export interface Draft {
  /** The body that the story has composed. When that changes, the visitor's own text is out of date. */
  readonly composed: string;
  readonly text: string;
}

export interface Sent {
  readonly label: string;
  /** By whom, such as ` as Alice`. */
  readonly as: string;
  readonly request: StoryRequest;
  readonly wire: WireRequest;
}

/** What came of a round, in a few words. */
export interface Tally {
  readonly headline: string;
  readonly detail: string;
  readonly verdict: 'good' | 'bad' | 'open';
}

export interface Setting {
  readonly customer: Customer;
  readonly isProtected: boolean;
  /** Of the request's choice, if it has one. */
  readonly choice: string;
}

export interface Composed {
  readonly method: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** A text goes as it is. */
  readonly body?: object | string;
}

export interface ChoiceOption {
  readonly value: string;
  readonly title: string;
  /** Whether it makes sense only in the shop as it is now. */
  readonly onlyProtected?: boolean;
}

export interface StoryRequest {
  readonly name: string;
  readonly title: string;
  /** Whether an Idempotency-Key goes with it. */
  readonly keyed: boolean;
  /** What the button for a new round says; none where a new round makes no difference. */
  readonly fresh?: string;
  /** Whether nobody is logged in when it is sent. */
  readonly anonymous?: boolean;
  readonly choice?: { readonly label: string; readonly options: readonly ChoiceOption[] };
  /** Whether it exists only in the shop as it is now. */
  readonly onlyProtected?: boolean;
  /** The request, or why it can't be sent yet. */
  compose(round: Round, setting: Setting): Composed | string;
  /** What it wants to happen once, where no header says so. */
  naturalKey?(round: Round): string;
  /** The same with one thing changed, for the same key. */
  otherBody?(body: Record<string, unknown>): object;
  /** Keeps what a client would keep of an answer. */
  heard?(outcome: Outcome, round: Round): void;
}

/** The round's rows for a tally: what is new by it, what is there now, and what was there before. */
export interface Seen {
  readonly round: Round;
  news(table: string): readonly Row[];
  now(table: string): readonly Row[];
  before(table: string): readonly Row[];
}

export interface Story {
  readonly name: string;
  readonly title: string;
  readonly sentence: string;
  readonly requests: readonly StoryRequest[];
  /** Why there are no records, where something else decides. */
  readonly withoutRecords?: string;
  /** Whether something is still to come that the answer did not wait for. */
  isUnsettled?(state: PageState): boolean;
  tally(seen: Seen): Tally;
}

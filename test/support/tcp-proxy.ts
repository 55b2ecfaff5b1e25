/**
 * A line to Postgres that can break in all the ways lines break, and that counts what goes over it.
 * It understands just enough of the protocol (without TLS) to see which prepared statements are run.
 */
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

export interface TcpProxy {
  /** The database's URL by way of this line. */
  readonly url: string;
  /** Names of the statements that clients have sent, in their order; the text of those without one. */
  readonly statements: readonly string[];
  /** The same by round trips: what was sent before anybody waited for an answer. */
  readonly trips: readonly (readonly string[])[];
  /** Connections that were asked for so far, whatever became of them. */
  readonly connections: number;
  /** Ends every connection, and every new one at once, as a server that is down. */
  cut(): void;
  /** Nothing comes through any more, in neither direction, as when packets are lost. They arrive late if it is restored. */
  hang(): void;
  restore(): void;
  /** The next statement of that name reaches Postgres, and the line breaks before its answer comes back. Resolves when that has happened. */
  loseAnswerTo(statement: string): Promise<void>;
  close(): Promise<void>;
}

interface Line {
  /** Sends what was held back. */
  flow(): void;
  break(): void;
}

export async function startTcpProxy(url: string): Promise<TcpProxy> {
  const { hostname, port: serverPort } = new URL(url);
  const lines = new Set<Line>();
  const statements: string[] = [];
  const trips: (readonly string[])[] = [];
  let connections = 0;
  let mode: 'open' | 'cut' | 'hang' = 'open';
  let losing: { readonly statement: string; readonly lost: () => void } | undefined;

  const listener = createServer((client) => {
    connections += 1;
    const server = connect(Number(serverPort), hostname);
    const held: { readonly to: Socket; readonly bytes: Buffer }[] = [];
    const line: Line = {
      flow() {
        for (const { to, bytes } of held.splice(0)) to.write(bytes);
      },
      break() {
        lines.delete(line);
        client.destroy();
        server.destroy();
      },
    };
    let losesAnswer: (() => void) | undefined;
    const frontend = new FrontendMessages(
      (statement) => {
        statements.push(statement);
        if (losing?.statement !== statement) return;
        losesAnswer = losing.lost;
        losing = undefined;
      },
      (trip) => void trips.push(trip),
    );
    const pass = (to: Socket, bytes: Buffer): void => void (mode === 'hang' ? held.push({ to, bytes }) : to.write(bytes));
    lines.add(line);
    client.on('data', (bytes: Buffer) => {
      frontend.read(bytes);
      pass(server, bytes);
    });
    server.on('data', (bytes: Buffer) => {
      if (losesAnswer === undefined) return pass(client, bytes);
      line.break();
      losesAnswer();
    });
    // What was sent before the client gave up may still arrive, as it does on a real network.
    client.on('error', ignored).on('close', () => (mode === 'hang' && held.length > 0 ? undefined : line.break()));
    server.on('error', ignored).on('close', line.break);
    if (mode === 'cut') line.break();
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;

  return {
    url: Object.assign(new URL(url), { port: String(port) }).href,
    statements,
    trips,
    get connections() {
      return connections;
    },
    cut() {
      mode = 'cut';
      for (const line of lines) line.break();
    },
    hang() {
      mode = 'hang';
    },
    restore() {
      mode = 'open';
      for (const line of lines) line.flow();
    },
    loseAnswerTo: (statement) => new Promise((lost) => (losing = { statement, lost })),
    async close() {
      const closed = once(listener, 'close');
      listener.close();
      for (const line of lines) line.break();
      await closed;
    },
  };
}

/** What a client sends: a start-up message without a type, then messages of a type, a length and a content. */
class FrontendMessages {
  #unread: Buffer = Buffer.alloc(0);
  #started = false;

  #trip: string[] = [];
  /** The text of the statement without a name. */
  #unnamed = '';

  constructor(
    private readonly onStatement: (name: string) => void,
    private readonly onTrip: (statements: readonly string[]) => void,
  ) {}

  read(bytes: Buffer): void {
    this.#unread = Buffer.concat([this.#unread, bytes]);
    for (let size = this.#size(); size !== undefined && this.#unread.length >= size; size = this.#size()) {
      if (this.#started) this.#see(this.#unread.subarray(0, size));
      this.#started = true;
      this.#unread = this.#unread.subarray(size);
    }
  }

  #size(): number | undefined {
    const typeBytes = this.#started ? 1 : 0;
    return this.#unread.length < typeBytes + 4 ? undefined : typeBytes + this.#unread.readInt32BE(typeBytes);
  }

  #see(message: Buffer): void {
    const [first = '', second = ''] = message.subarray(5).toString('utf8').split('\0', 2);
    if (message[0] === PARSE && first === '') this.#unnamed = second;
    if (message[0] === BIND) this.#sent(second || this.#unnamed);
    if (message[0] === SIMPLE_QUERY) this.#sent(first);
    if (message[0] !== SYNC && message[0] !== SIMPLE_QUERY) return;
    this.onTrip(this.#trip);
    this.#trip = [];
  }

  #sent(statement: string): void {
    this.#trip.push(statement);
    this.onStatement(statement);
  }
}

/** “Parse” names a statement and has its text; “Bind” names a portal and then the statement; “Query” has the text; “Sync” asks for the answers. */
const PARSE = 0x50;
const BIND = 0x42;
const SYNC = 0x53;
const SIMPLE_QUERY = 0x51;

function ignored(): void {
  // 'close' follows
}

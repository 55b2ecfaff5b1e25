/** A TCP proxy before Postgres, whose lines break one by one: on the way there, on the way back, or all at once. */
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

/** What becomes of the next statement on a line. The line breaks in every case. */
export type Loss =
  /** It never reaches Postgres. */
  | 'the statement'
  /** Postgres carries it out, and nobody hears of it. */
  | 'the answer'
  /** It reaches Postgres, and while it is carried out the client has gone. */
  | 'the patience';

export interface BreakableLines {
  /** The database's URL by way of these lines. */
  readonly url: string;
  /** @param port of the client's end */
  lose(loss: Loss, port: number | undefined): void;
  /** Breaks all that there are. New ones can be made at once. */
  cut(): void;
  close(): Promise<void>;
}

class Line {
  #loss: Loss | undefined;

  constructor(
    private readonly client: Socket,
    private readonly server: Socket,
  ) {
    client.on('data', (bytes: Buffer) => this.#fromClient(bytes));
    server.on('data', (bytes: Buffer) => this.#fromServer(bytes));
    for (const socket of [client, server]) socket.on('error', () => undefined).on('close', () => this.break());
  }

  loseNext(loss: Loss): void {
    this.#loss = loss;
  }

  break(): void {
    this.client.destroy();
    this.server.destroy();
  }

  #fromClient(bytes: Buffer): void {
    if (this.#loss === 'the statement') return this.break();
    if (this.#loss !== 'the patience') return void this.server.write(bytes);
    this.client.destroy();
    this.server.end(bytes); // it arrives, and only then the end of the line
  }

  #fromServer(bytes: Buffer): void {
    if (this.#loss === undefined) return void this.client.write(bytes);
    if (endsAnswer(bytes)) this.break();
  }
}

/** “ReadyForQuery” ends an answer: what was to be committed is. */
function endsAnswer(bytes: Buffer): boolean {
  return bytes.length >= 6 && bytes[bytes.length - 6] === 0x5a && bytes.readInt32BE(bytes.length - 5) === 5;
}

export async function startBreakableLines(url: string): Promise<BreakableLines> {
  const { hostname, port: serverPort } = new URL(url);
  const lines = new Map<number | undefined, Line>();
  const listener = createServer((client) => {
    const { remotePort } = client;
    lines.set(remotePort, new Line(client, connect(Number(serverPort), hostname)));
    client.once('close', () => lines.delete(remotePort));
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const cut = (): void => {
    for (const line of lines.values()) line.break();
  };
  return {
    url: Object.assign(new URL(url), { port: String(port) }).href,
    lose(loss, at) {
      const line = lines.get(at);
      if (line === undefined) throw new Error(`There is no line from port ${at}.`);
      line.loseNext(loss);
    },
    cut,
    async close() {
      const closed = once(listener, 'close');
      listener.close();
      cut();
      await closed;
    },
  };
}

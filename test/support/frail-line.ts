/** A line to a server that breaks in the middle of answers: a test says after how many bytes. */
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

export interface FrailLine {
  /** The server's URL by way of this line. */
  readonly url: string;
  /** The next answers break off after so many bytes, one after another; a negative number counts from the answer's end. */
  breakAfter(...bytes: number[]): void;
  close(): Promise<void>;
}

/** The server must write an answer in one piece, or close its connection after it, for its end to be known. */
export async function startFrailLine(url: string): Promise<FrailLine> {
  const { hostname, port } = new URL(url);
  const breaks: number[] = [];
  const sockets = new Set<Socket>();
  const listener = createServer((client) => {
    const server = connect(Number(port), hostname);
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => (sockets.delete(socket), other.destroy()));
    }
    client.pipe(server);
    server.on('data', (answer: Buffer) => {
      const [bytes] = breaks.splice(0, 1);
      if (bytes === undefined) return void client.write(answer);
      client.write(answer.subarray(0, bytes < 0 ? answer.length + bytes : bytes), () => client.destroy());
    });
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return {
    url: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    breakAfter: (...bytes) => void breaks.push(...bytes),
    async close() {
      const closed = once(listener, 'close');
      listener.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

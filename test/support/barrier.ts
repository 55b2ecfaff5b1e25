/** Lets nobody through before `size` have arrived: the only honest way to say “at the same time”. */
export function barrier(size: number): { arrive(): Promise<void> } {
  const { promise, resolve } = gate();
  let arrived = 0;
  return {
    arrive() {
      arrived += 1;
      if (arrived > size) throw new Error(`This barrier was made for ${size}, and one more has come.`);
      if (arrived === size) resolve();
      return promise;
    },
  };
}

function gate() {
  let resolve!: () => void;
  const promise = new Promise<void>((open) => {
    resolve = open;
  });
  return { promise, resolve };
}

/** Does what a `curl` line from our texts does, on machines without curl too. */

/** `curl [-i] [-X <method>] <url> [-H '<name>: <value>']… [-d '<body>']`, in the simple quoting that every shell understands the same way. */
export function sendCurlLine(line: string): Promise<Response> {
  const [program, ...words] = (line.match(/'[^']*'|[^\s']+/g) ?? []).map((word) => word.replace(/^'|'$/g, ''));
  if (program !== 'curl') throw new Error(`This is no curl line: ${line}`);
  let url: string | undefined;
  let method: string | undefined;
  let body: string | undefined;
  const headers: [string, string][] = [];
  while (words.length > 0) {
    const word = words.shift() ?? '';
    if (word === '-H') headers.push(split(words.shift() ?? ''));
    else if (word === '-X') method = words.shift();
    else if (word === '-d') body = words.shift();
    else if (word.startsWith('http://') && url === undefined) url = word;
    else if (word !== '-i') throw new Error(`Nobody has taught this test what curl does with ${word}.`);
  }
  if (url === undefined) throw new Error(`There is no address in ${line}`);
  return fetch(url, { method: method ?? (body === undefined ? 'GET' : 'POST'), headers, ...(body === undefined ? {} : { body }) });
}

function split(field: string): [string, string] {
  const [, name, value] = /^([^:]+): (.*)$/.exec(field) ?? [];
  if (name === undefined || value === undefined) throw new Error(`This is no header field: ${field}`);
  return [name, value];
}

/** Aligned columns of text. What is shown came from clients, so nothing in it may command the terminal. */

export interface Column {
  readonly title: string;
  readonly align?: 'right';
}

/** Between two columns. */
const GAP = '  ';

/** A heading and a line for each row, without white space at a line's end. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[], heading: (text: string) => string): string {
  const cells = [columns.map(({ title }) => title), ...rows.map((row) => row.map(printable))];
  const widths = columns.map((_, at) => Math.max(...cells.map((row) => widthOf(row[at] ?? ''))));
  const lines = cells.map((row) => {
    const padded = columns.map(({ align }, at) => pad(row[at] ?? '', widths[at] ?? 0, align));
    return padded.join(GAP).trimEnd();
  });
  return lines.map((line, at) => (at === 0 ? heading(line) : line)).join('\n');
}

/** Names and values, one pair a line. A value that is missing has no line. */
export function facts(pairs: readonly (readonly [name: string, value: string | undefined])[], heading: (text: string) => string): string {
  const told = pairs.flatMap(([name, value]) => (value === undefined ? [] : [[name, printable(value)] as const]));
  const width = Math.max(0, ...told.map(([name]) => widthOf(name)));
  return told.map(([name, value]) => `${heading(pad(name, width))}${GAP}${value}`.trimEnd()).join('\n');
}

function pad(text: string, width: number, align?: 'right'): string {
  const blank = ' '.repeat(Math.max(0, width - widthOf(text)));
  return align === 'right' ? blank + text : text + blank;
}

/** Control characters, and those that turn the direction of what follows them. */
const COMMANDS = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu;

/** On one line, with what would command the terminal written as an escape. */
export function printable(text: string): string {
  return text.replace(COMMANDS, escaped);
}

/** The same for a text of several lines. */
export function printableLines(text: string): string {
  return text.replace(COMMANDS, (character) => (character === '\n' || character === '\t' ? character : escaped(character)));
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

const GRAPHEMES = new Intl.Segmenter('en', { granularity: 'grapheme' });
const DOUBLE_WIDTH = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\uff01-\uff60]/u;

/** In cells of a terminal. */
function widthOf(text: string): number {
  let cells = 0;
  for (const { segment } of GRAPHEMES.segment(text)) cells += DOUBLE_WIDTH.test(segment) ? 2 : 1;
  return cells;
}

/** What a command has to say. Commands return it; whoever called prints one of its two forms. */
export interface Report {
  /** The one document of `--json`: what the service's methods return, with dates as ISO 8601. */
  readonly document: unknown;
  /** For people, without the last line break. */
  readonly text: string;
  /** Default: `EXIT.ok`. */
  readonly exitCode?: number;
}

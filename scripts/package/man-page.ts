/**
 * Writes loopcsi(8): an overview of the commands as commander knows them, then docs/command-line.md and docs/configuration.md,
 * which unit tests compare with the program. go-md2man translates the Markdown to roff.
 */
import { PassThrough } from 'node:stream';
import type { Command } from 'commander';
import { makeProgram } from '../../src/cli/program.ts';
import { Session } from '../../src/cli/session.ts';
import { Terminal } from '../../src/cli/terminal.ts';
import { run } from '../command.ts';

export interface ManPageSources {
  readonly version: string;
  /** The date of the page, as `2026-01-31`. */
  readonly date: string;
  /** The texts of docs/command-line.md and docs/configuration.md. */
  readonly commandLine: string;
  readonly configuration: string;
}

/** Returns the page as roff. Needs go-md2man on the PATH. */
export async function makeManPage(sources: ManPageSources): Promise<string> {
  const roff = await run('go-md2man', [], { input: manPageMarkdown(sources) });
  // groff would print the hyphens of flags as U+2010, which cannot be copied to a shell.
  const withMinus = roff.replaceAll(/\\fB.*?\\f[RP]|^\.EX$.*?^\.EE$/gms, (literal) =>
    literal.replaceAll(/(?<!\\)-/g, '\\-'),
  );
  return `${withMinus}\n`;
}

export function manPageMarkdown({
  version,
  date,
  commandLine,
  configuration,
}: ManPageSources): string {
  const program = describeProgram(version);
  const overview = leavesOf(program).map(
    (command) => `\`${usageOf(command)}\`\n: ${command.description()}\n`,
  );
  const usage = `\`${program.name()}\` [\`--endpoint\` *unix://PATH*] [\`--json\`] *COMMAND*`;
  return [
    `% "LOOPCSI" "8" "${date}" "loopcsi ${version}" "System Administration"`,
    `# NAME\nloopcsi - ${program
      .description()
      .replace(/^./, (first) => first.toLowerCase())
      .replace(/\.$/, '')}`,
    `# SYNOPSIS\n${usage}`,
    `# DESCRIPTION\n${translate(commandLine, 2)}`,
    `# SUMMARY OF COMMANDS\n\n${overview.join('\n')}`,
    `# CONFIGURATION OF SERVE\n${translate(configuration, 3)}`,
    files,
    '# SEE ALSO\n**losetup**(8), **mount**(8), **mkfs**(8), **docker-volume-create**(1)',
  ].join('\n\n');
}

const files = `# FILES

\`/etc/loopcsi.yaml\`
: Configuration of loopcsi.service.

\`/etc/default/loopcsi\`
: Environment variables of loopcsi.service. They take precedence over the configuration file.

\`/var/lib/loopcsi\`
: State of the node, and the pool of a driver that has no option \`--pool\`.

\`/run/loopcsi/csi.sock\`
: Socket of the driver, for CSI and the command line.

\`/run/docker/plugins/loopcsi.sock\`
: Socket of the volume plugin for Docker.

\`/usr/share/doc/loopcsi\`
: The documentation.`;

function describeProgram(version: string): Command {
  const streams = {
    stdin: new PassThrough(),
    stdout: new PassThrough(),
    stderr: new PassThrough(),
  };
  return makeProgram(
    new Session({ terminal: new Terminal(streams, {}), environment: {}, version }),
  );
}

function leavesOf(command: Command): readonly Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leavesOf);
}

function usageOf(command: Command): string {
  return command.createHelp().commandUsage(command);
}

/** Translates a page of docs/ to the Markdown that go-md2man renders well; `level` is the level of its `##` headings. */
function translate(page: string, level: 2 | 3): string {
  const lines: string[] = [];
  let isCode = false;
  let table: string[] = [];
  for (const line of [...page.split('\n').slice(1), '']) {
    if (line.startsWith('```')) isCode = !isCode;
    if (!isCode && line.startsWith('|')) {
      table.push(line);
      continue;
    }
    if (table.length > 0) lines.push(...definitions(table), '');
    table = [];
    lines.push(isCode ? line : heading(withoutPageLinks(line), level));
  }
  return lines.join('\n').trim();
}

function heading(line: string, level: 2 | 3): string {
  if (!line.startsWith('## ')) return line;
  return level === 2 ? line.toUpperCase() : `#${line}`;
}

/** A page of docs/ is not reachable from a terminal, so only the text of a link to it remains. */
function withoutPageLinks(line: string): string {
  return line.replaceAll(/\[([^\]]+)\]\((?!https?:)[^)]*\)/g, '$1');
}

/** A table as a list of definitions, because its cells are too long for a terminal. Cells between the first and the last are facts. */
function definitions(table: readonly string[]): readonly string[] {
  const [head = [], , ...rows] = table.map(cellsOf);
  return rows.flatMap((cells) => {
    const [term = ''] = cells;
    const meaning = withoutPageLinks(cells.at(-1) ?? '');
    const facts = cells
      .slice(1, -1)
      .map((cell, index) => (cell === '' ? '' : `${head[index + 1] ?? ''}: ${cell}.`))
      .filter((fact) => fact !== '');
    return [term.startsWith('`') ? term : `**${term}**`, `: ${[meaning, ...facts].join(' ')}`, ''];
  });
}

function cellsOf(row: string): readonly string[] {
  const inner = row.replace(/^\||\|\s*$/g, '');
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'));
}

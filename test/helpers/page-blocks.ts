/**
 * The command blocks of a page. A comment before each block, which readers do not see, says which suite runs it, or why none does:
 *
 *   <!-- runs: SUITE -->
 *   <!-- runs: SUITE, after: SHELL COMMANDS -->      what the page takes for granted, such as a volume that exists
 *   <!-- not run: REASON -->
 *
 * A `text` block that follows is the output that the page promises; `…` stands for any text within a line.
 */
export interface PageBlock {
  readonly page: string;
  /** The line of the block's first command, counted from 1. */
  readonly line: number;
  readonly commands: string;
  readonly suite: string | undefined;
  readonly setUp: string | undefined;
  readonly reasonNotToRun: string | undefined;
  /** The promised output. */
  readonly output: string | undefined;
}

interface Fence {
  readonly line: number;
  readonly language: string;
  readonly content: string;
  /** The text between this fence and the one before it. */
  readonly before: string;
}

/** Returns every `sh` block of the page. */
export function pageBlocks(page: string, text: string): readonly PageBlock[] {
  const fences = fencesOf(text);
  return fences.flatMap((fence, index) => {
    if (fence.language !== 'sh') return [];
    const comment = fence.before.trimEnd().split('\n').at(-1)?.trim() ?? '';
    const runs = /^<!-- runs: ([a-z-]+)(?:, after: (.+))? -->$/.exec(comment);
    const next = fences[index + 1];
    const promises = next?.language === 'text' && next.before.trim() === '';
    return [
      {
        page,
        line: fence.line,
        commands: fence.content,
        suite: runs?.[1],
        setUp: runs?.[2],
        reasonNotToRun: /^<!-- not run: (.+) -->$/.exec(comment)?.[1],
        output: promises ? next.content : undefined,
      },
    ];
  });
}

/** A block within a list is indented; its content is returned without that indentation. */
function fencesOf(text: string): readonly Fence[] {
  const fences: Fence[] = [];
  let before = '';
  let open: { line: number; language: string; indent: number; lines: string[] } | undefined;
  for (const [index, line] of text.split('\n').entries()) {
    const fence = /^( *)```(\w*)$/.exec(line);
    if (open === undefined && fence !== null) {
      open = {
        line: index + 2,
        language: fence[2] ?? '',
        indent: fence[1]?.length ?? 0,
        lines: [],
      };
    } else if (open !== undefined && fence !== null) {
      fences.push({
        line: open.line,
        language: open.language,
        content: open.lines.join('\n'),
        before,
      });
      open = undefined;
      before = '';
    } else if (open !== undefined) open.lines.push(line.slice(open.indent));
    else before += `${line}\n`;
  }
  return fences;
}

/** Whether the output is the promised one. Trailing blanks and the width of runs of blanks do not count. */
export function isPromisedOutput(promised: string, output: string): boolean {
  const wanted = squeeze(promised);
  const found = squeeze(output);
  return (
    wanted.length === found.length &&
    wanted.every((line, index) => patternOf(line).test(found[index] ?? ''))
  );
}

function squeeze(text: string): readonly string[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => line.trimEnd().replace(/ +/g, ' '));
}

function patternOf(line: string): RegExp {
  const parts = line.split('…').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`);
}

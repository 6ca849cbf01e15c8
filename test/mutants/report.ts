import { generated, isDetected, type Verdict } from './trial.ts';

/** Every verdict as Markdown: the rows by subject, then the generated defects by file. */
export function reportOf(verdicts: readonly Verdict[]): string {
  const subjects = [...new Set(verdicts.map(({ mutant }) => mutant.subject))];
  const sections = subjects.map((subject) => {
    const own = verdicts.filter(({ mutant }) => mutant.subject === subject);
    return subject === generated ? generatedSection(own) : rowsSection(subject, own);
  });
  const detected = verdicts.filter(isDetected).length;
  return [
    '# Deliberate defects of the driver\n',
    `${verdicts.length} were tried, ${detected} were detected.\n`,
    ...sections,
  ].join('\n');
}

function rowsSection(subject: string, verdicts: readonly Verdict[]): string {
  const rows = verdicts.map(({ mutant, outcome, by }) => [
    mutant.name,
    code(mutant.file),
    outcome,
    by,
  ]);
  return tableOf(subject, ['Defect', 'File', 'Outcome', 'Test'], rows);
}

function generatedSection(verdicts: readonly Verdict[]): string {
  const files = [...new Set(verdicts.map(({ mutant }) => mutant.file))];
  const counts = files.map((file) => {
    const own = verdicts.filter(({ mutant }) => mutant.file === file);
    const survivors = own.filter((verdict) => !isDetected(verdict)).length;
    return [code(file), String(own.length), String(own.length - survivors), String(survivors)];
  });
  const survivors = verdicts
    .filter((verdict) => !isDetected(verdict))
    .map(({ mutant }) => [code(mutant.file), code(mutant.name)]);
  return [
    tableOf('Generated', ['File', 'Tried', 'Detected', 'Survived'], counts),
    tableOf('Survivors', ['File', 'Defect'], survivors),
  ].join('\n');
}

function tableOf(
  title: string,
  columns: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', String.raw`\|`).replaceAll('\n', ' ')).join(' | ')} |`;
  const rule = `|${columns.map(() => '---').join('|')}|`;
  return [`## ${title}\n`, line(columns), rule, ...rows.map(line), ''].join('\n');
}

function code(text: string): string {
  return `\`${text.replaceAll('`', "'")}\``;
}

import type { Outcome } from './junit.ts';
import { left } from './test-driver.ts';

/** Lists in Markdown the passed, the skipped and the excluded tests, with the reasons. */
export function reportOf(outcomes: readonly Outcome[], all: readonly string[]): string {
  const count = (status: Outcome['status']): number =>
    outcomes.filter((one) => one.status === status).length;
  const rows = (status: Outcome['status'], withMessage: boolean): string =>
    outcomes
      .filter((one) => one.status === status)
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .map((one) => {
        const last = withMessage ? reason(one.message) : one.seconds.toFixed(0);
        return `| ${patternOf(one.name)} | ${testOf(one.name)} | ${last} |`;
      })
      .join('\n');
  const leftOut = left
    .map(({ pattern, because }) => {
      const names = all.filter((name) => pattern.test(name));
      return `| \`${pattern.source.replaceAll('|', '\\|')}\` | ${names.length} | ${because} |`;
    })
    .join('\n');
  const leftOutCount = all.filter((name) => left.some(({ pattern }) => pattern.test(name))).length;
  const notRun = all.length - outcomes.length - leftOutCount;
  const failed =
    count('failed') === 0
      ? ''
      : `\n## Failed\n\n| Pattern | Test | Why |\n|---|---|---|\n${rows('failed', true)}\n`;
  return `# Kubernetes' own storage suite

${all.length} tests: ${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped by the suite itself, ${leftOutCount} left out${notRun === 0 ? '' : `, ${notRun} not run this time`}.
${failed}
## Left out

A test that two rows match is counted in both.

| Name matches | Tests | Why |
|---|---|---|
${leftOut}

## Skipped by the suite

| Pattern | Test | Its reason |
|---|---|---|
${rows('skipped', true)}

## Passed

| Pattern | Test | Seconds |
|---|---|---|
${rows('passed', false)}
`;
}

const pattern = /^.*?\[Testpattern: ([^\]]*)\] */;

function patternOf(name: string): string {
  return cell(pattern.exec(name)?.[1] ?? '');
}

function testOf(name: string): string {
  return cell(name.replace(pattern, ''));
}

function reason(message: string): string {
  const [first = ''] = message.split('\n');
  return cell(
    first
      .replace(/^skipped - /, '')
      .replace(/ -+ skipping$/, '')
      .slice(0, 200),
  );
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;').trim();
}

/** The outcome of one test. */
export interface Outcome {
  readonly name: string;
  readonly status: 'passed' | 'failed' | 'skipped';
  readonly seconds: number;
  /** The suite's message if the test failed or was skipped. */
  readonly message: string;
}

/** The tests of a JUnit report. The caller removes the tests that the focus did not select. */
export function outcomesOf(report: string): readonly Outcome[] {
  const cases = report.matchAll(/<testcase ([^>]*?)(?:\/>|>(.*?)<\/testcase>)/gs);
  return [...cases].flatMap(([, attributes = '', body = '']): Outcome[] => {
    const attribute = (key: string): string =>
      plain(new RegExp(`(?:^| )${key}="([^"]*)"`).exec(attributes)?.[1] ?? '');
    const name = attribute('name');
    if (!name.startsWith('[It] ')) return [];
    const message = /<(?:failure|skipped)[^>]* message="([^"]*)"/.exec(body)?.[1] ?? '';
    const status = body.includes('<failure') || body.includes('<error') ? 'failed' : undefined;
    return [
      {
        name: name.slice('[It] '.length),
        status: status ?? (body.includes('<skipped') ? 'skipped' : 'passed'),
        seconds: Number(attribute('time')),
        message: plain(message),
      },
    ];
  });
}

function plain(xml: string): string {
  return xml
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&#34;', '"')
    .replaceAll('&quot;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&apos;', "'")
    .replaceAll('&#xA;', '\n')
    .replaceAll('&amp;', '&');
}

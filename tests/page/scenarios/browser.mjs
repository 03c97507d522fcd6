// Runs one scenario in headless Chromium and prints its result as JSON. An error or warning on the console, a dialog, a violation of the
// Content-Security-Policy, a failed request, a request to another server, or a serious finding of axe-core fails the scenario.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import axe from "axe-core";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
  "--font-render-hinting=none",
];
export const PATIENCE_MS = 60_000;

export async function run(scenario) {
  const args = JSON.parse(process.argv[2]);
  const profile = mkdtempSync(join(tmpdir(), "page-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args: FLAGS, viewport: { width: 1360, height: 900 }, colorScheme: "light",
    timezoneId: "UTC", ...args.context,
  });
  context.setDefaultTimeout(PATIENCE_MS);
  const problems = [];
  const page = context.pages()[0] ?? await context.newPage();
  page.on("console", (message) => { if (message.type() === "error" || message.type() === "warning") problems.push(`console: ${message.text()}`); });
  page.on("pageerror", (error) => problems.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => { problems.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => { if (!request.url().startsWith(args.url) && !request.url().startsWith("data:")) problems.push(`request to ${request.url()}`); });
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
  });
  const tools = {
    args, context, page, problems,
    /** Check the whole page, in both colour schemes, with the rules of WCAG 2.2 AA and the best practices of axe-core. */
    accessible: async (name) => {
      for (const colorScheme of ["dark", "light"]) {
        await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
        await page.evaluate(axe.source);
        const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
        for (const found of violations) {
          if (found.impact === "serious" || found.impact === "critical") problems.push(`axe in ${name}, ${colorScheme}: ${found.id} ${found.nodes.slice(0, 3).map((node) => `${node.target}: ${node.failureSummary}`).join("; ")}`);
        }
      }
    },
    /** Write a picture of the page into the folder `pictures`, which is that of the documentation if PICTURES is set. */
    picture: async (name, options = {}) => { if (args.pictures) await page.screenshot({ path: join(args.pictures, `${name}.png`), ...options }); },
  };
  let failure = null;
  let result = null;
  try { result = await scenario(tools); } catch (error) {
    failure = error;
    if (args.failures) await page.screenshot({ path: join(args.failures, "failure.png"), fullPage: true }).catch(() => {});
  }
  await context.close();
  rmSync(profile, { recursive: true, force: true });
  if (failure) process.stderr.write(`${failure.stack}\n`);
  for (const problem of problems) process.stderr.write(`${problem}\n`);
  process.stdout.write(JSON.stringify(result ?? {}));
  process.exitCode = failure || problems.length ? 1 : 0;
}

export function check(condition, what) {
  if (!condition) throw new Error(`expected: ${what}`);
}

/** Wait until `read` returns a true value, and return that value. Throw an error after PATIENCE_MS. */
export async function until(read, what) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const value = await read();
    if (value) return value;
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

// Signing in, keys and budgets, a limit that fills, a reload with mistakes; names, prompts and errors full of markup stay text.
import { readFileSync, writeFileSync } from "node:fs";
import { check, run, until } from "./browser.mjs";

const CANARY = '<img src=x onerror="window.canary=1"><script>window.canary=1</script>';
const KEY = "<b>app</b>";
const entry = (page) => page.locator(`[data-entry="${KEY}"]`);

async function signIn({ page, args, accessible, problems }) {
  await page.goto(args.url);
  await page.getByLabel("Admin key").fill("wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("The admin key is wrong.").waitFor();
  await accessible("Sign in");
  const refused = problems.findIndex((problem) => problem.includes("401"));
  check(refused >= 0, "the browser reports the refused request");
  problems.splice(refused, 1);
  await page.getByLabel("Admin key").fill(args.key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("link", { name: "Now", exact: true }).waitFor();
}

async function create({ page, accessible }) {
  await page.getByRole("link", { name: "Keys and budgets" }).click();
  await page.getByRole("button", { name: "New key" }).click();
  await page.getByLabel("Name").fill(KEY);
  await page.getByLabel("Requests").fill("5/day");
  await page.getByLabel("Captured content").selectOption("content");
  await accessible("New key");
  await page.getByRole("button", { name: "Create" }).click();
  const secret = await page.locator(".secret code").innerText();
  check(secret.startsWith("lg-"), "the secret of the new key");
  await page.getByRole("button", { name: "I have stored it" }).click();
  await entry(page).waitFor();
  check(!(await page.content()).includes(secret), "the secret is gone");
  return secret;
}

async function fill({ page, problems }, secret) {
  await page.getByRole("link", { name: "Playground" }).click();
  await page.getByLabel("Virtual key").fill(secret);
  await page.getByRole("combobox", { name: "Model", exact: true }).selectOption("plain");
  await page.getByRole("textbox", { name: "Message 1" }).fill(CANARY);
  const answer = page.getByRole("region", { name: "Answer of plain" });
  for (let call = 1; call <= 5; call += 1) {
    await page.getByRole("button", { name: "Send" }).click();
    await until(async () => (await answer.getAttribute("data-phase")) === "done" && (await answer.getByRole("link").getAttribute("href")) !== fill.last, `answer ${call}`);
    fill.last = await answer.getByRole("link").getAttribute("href");
  }
  check((await answer.innerText()).includes('window.canary=1'), "the markup of the answer as text");
  await page.getByRole("button", { name: "Send" }).click();
  await until(async () => (await answer.getAttribute("data-phase")) === "failed", "a refused call");
  check((await answer.innerText()).includes("429"), "the limit in the refusal");
  await until(() => problems.some((problem) => problem.includes("429")), "the browser reports the refused request");
  problems.splice(problems.findIndex((problem) => problem.includes("429")), 1);
}

async function watch({ page, accessible }) {
  await page.getByRole("link", { name: "Keys and budgets" }).click();
  const limit = page.locator(`[data-limit="key:${KEY}:requests"]`);
  await until(async () => (await limit.getAttribute("data-used")) === "5", "the filled limit");
  check((await limit.innerText()).includes("resets"), "when the limit resets");
  await page.locator(".usage li").first().waitFor();
  await page.getByLabel("by").selectOption("key");
  await until(async () => (await page.locator(".usage").innerText()).includes(KEY), "the usage of the key");
  await accessible("Keys and budgets");
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "CSV" }).click()]);
  check(readFileSync(await download.path(), "utf8").includes(KEY), "the key in the CSV");
  await page.getByRole("link", { name: "Calls", exact: true }).click();
  await page.getByLabel("status").selectOption("429");
  await page.locator("tbody tr", { hasText: "429" }).first().getByRole("link").click();
  await page.getByText("rate_limit_exceeded").first().waitFor();
  await page.getByRole("region", { name: "Content" }).waitFor();
  check((await page.getByRole("main").innerText()).includes(KEY), "the key of the refused call");
}

async function change({ page }) {
  await page.getByRole("link", { name: "Keys and budgets" }).click();
  await entry(page).getByRole("button", { name: "Disable" }).click();
  await entry(page).getByText("disabled", { exact: true }).waitFor();
  await entry(page).getByRole("button", { name: "Enable" }).click();
  await entry(page).getByText("disabled", { exact: true }).waitFor({ state: "detached" });
  await entry(page).getByRole("button", { name: "Rotate" }).click();
  await page.getByLabel("The present secret ends").selectOption("0s");
  await page.getByRole("dialog").getByRole("button", { name: "Rotate" }).click();
  await page.locator(".secret code").waitFor(); // visible only once the dialog is open, so that Escape closes it
  check((await page.locator(".secret code").innerText()).startsWith("lg-"), "the new secret");
  await page.keyboard.press("Escape");
  await entry(page).getByRole("button", { name: "Revoke" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await entry(page).waitFor({ state: "detached" });
}

async function errors({ page, problems }) {
  await page.getByRole("link", { name: "Playground" }).click();
  await page.getByRole("combobox", { name: "Model", exact: true }).selectOption("broken");
  await page.getByLabel("Virtual key").fill("lg-of-the-file-0123456789abcdef");
  await page.getByRole("button", { name: "Send" }).click();
  const answer = page.getByRole("region", { name: "Answer of broken" });
  await until(async () => (await answer.getAttribute("data-phase")) === "failed", "the error of the upstream");
  check((await answer.innerText()).includes("<script>window.canary=2"), "the markup of the upstream's error as text");
  await until(() => problems.some((problem) => problem.includes("400")), "the browser reports the refused request");
  problems.splice(problems.findIndex((problem) => problem.includes("400")), 1);
}

/** Check that the content of a call whose key captures it is shown, explained, copied, and opened in the playground. */
async function content({ page, context, accessible }) {
  await page.getByRole("region", { name: "Answer of broken" }).getByRole("link", { name: "This call in the record" }).click();
  const shown = page.getByRole("region", { name: "Content" });
  await shown.getByText("Request", { exact: true }).click();
  await until(async () => (await shown.innerText()).includes("window.canary=1"), "the captured prompt as text");
  await page.getByRole("button", { name: "Explain again today" }).click();
  await until(async () => (await page.getByRole("region", { name: "Request to p/refusing" }).innerText()).includes("window.canary=1"), "the prompt that the target would receive today");
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.getByRole("button", { name: "Copy as curl" }).click();
  const command = await until(() => page.evaluate(() => navigator.clipboard.readText()), "a copied command");
  check(command.startsWith("curl http://127.0.0.1:") && command.includes("window.canary=1") && command.includes("YOUR-KEY"), `the call as a command: ${command}`);
  await accessible("captured content");
  await page.evaluate(() => localStorage.removeItem("lockgate.draft"));
  await page.getByRole("link", { name: "Open in the playground" }).click();
  const message = page.getByRole("textbox", { name: "Message 1" });
  check((await message.inputValue()).includes("window.canary=1"), "the captured prompt in the playground");
}

async function reload({ page, args, accessible }) {
  await page.getByRole("link", { name: "Now", exact: true }).click();
  const card = page.getByRole("region", { name: "Configuration" });
  const file = readFileSync(args.config, "utf8");
  writeFileSync(args.config, file.replace("models:", 'models:\n  "<i>new</i>": p/mock'));
  await until(async () => (await card.innerText()).includes("<i>new</i>"), "what the reload changed");
  writeFileSync(args.config, file.replace("models:", "modelz:"));
  await until(async () => (await card.innerText()).includes("rejected"), "the rejected file");
  check(/\d+:\d+:.*modelz/.test(await card.innerText()), "the line of the mistake");
  check(/\+ modelz/.test(await card.innerText()), "what the rejected file would change");
  await page.getByRole("link", { name: "<i>new</i>" }).first().waitFor();
  await accessible("a rejected configuration");
  writeFileSync(args.config, file);
}

/** Check that the page is not empty after an address that was cut or a damaged draft. */
async function damage({ page, args, problems }) {
  await page.goto(`${args.url}/#/calls/%`);
  await page.reload();
  await page.getByText("No call with this id is recorded.").waitFor();
  await until(() => problems.some((problem) => problem.includes("404")), "the browser reports the unknown call");
  problems.splice(problems.findIndex((problem) => problem.includes("404")), 1);
  await page.evaluate(() => localStorage.setItem("lockgate.draft", '{"messages": null}'));
  await page.goto(`${args.url}/#/playground`);
  await page.getByText("The page could not show this view.").waitFor();
  await page.getByRole("link", { name: "Now", exact: true }).waitFor();
  await page.getByRole("button", { name: "Reset the view" }).click();
  await page.getByRole("textbox", { name: "Message 1" }).waitFor();
}

run(async (tools) => {
  const { page, context, args } = tools;
  await signIn(tools);
  const secret = await create(tools);
  await fill(tools, secret);
  await watch(tools);
  await change(tools);
  await errors(tools);
  await content(tools);
  await reload(tools);
  check((await page.evaluate(() => window.canary)) === undefined, "no markup runs");
  check((await page.evaluate(() => document.querySelectorAll('img[src="x"], main script, main b b, main i').length)) === 0, "no markup becomes an element");
  const cookies = await context.cookies();
  check(cookies.length === 1 && cookies[0].httpOnly && cookies[0].sameSite === "Strict", "the cookie of the session");
  const kept = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }));
  check(!kept.includes(secret) && !kept.includes(args.key), "no secret is kept in the browser");
  await page.reload();
  await page.getByRole("link", { name: "Now", exact: true }).waitFor();
  await damage(tools);
  await page.getByRole("textbox", { name: "Message 1" }).fill("a draft");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Admin key").waitFor();
  check((await page.evaluate(() => localStorage.getItem("lockgate.draft"))) === null, "no draft is kept after signing out");
  await page.reload();
  await page.getByLabel("Admin key").waitFor();
});

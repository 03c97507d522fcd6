// The page used with the keyboard alone, and the size and the first paint of the page.
import { check, run, until } from "./browser.mjs";

/** Return the tag and the name of the focused element. */
const focused = (page) => page.evaluate(() => {
  const element = document.activeElement;
  const label = element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent ?? element.textContent;
  return `${element.tagName.toLowerCase()} ${label.trim()}`;
});

const hasRing = (page) => page.evaluate(() => {
  const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
  const parent = getComputedStyle(document.activeElement.parentElement);
  return [outlineStyle, parent.outlineStyle].includes("solid") || outlineStyle === "auto" || parseFloat(outlineWidth) > 0;
});

async function tabTo(page, name, key = "Tab") {
  for (let press = 0; press < 120; press += 1) {
    await page.keyboard.press(key);
    const found = await focused(page);
    if (found.startsWith(name)) { check(await hasRing(page), `a visible focus on ${found}`); return; }
  }
  throw new Error(`the keyboard does not reach ${name}`);
}

async function use(page) {
  await tabTo(page, "a Skip to the content");
  await page.keyboard.press("Enter");
  check((await page.evaluate(() => document.activeElement.id)) === "main", "the content after the skip link");
  await tabTo(page, "div Requests per second");
  await page.keyboard.press("ArrowLeft");
  await until(async () => /\d\d:\d\d:\d\d/.test(await page.locator(".chart-tip").first().innerText()), "a value of the chart");
  await tabTo(page, "a Playground", "Shift+Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("textbox", { name: "Message 1" }).waitFor();
  check((await page.evaluate(() => document.activeElement.id)) === "main", "the focus in the new view");
  await tabTo(page, "textarea Message 1");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("Hello from the keyboard");
  await tabTo(page, "select Add a parameter");
  await page.keyboard.type("top_p");
  await page.getByRole("textbox", { name: "top_p", exact: true }).waitFor();
  await tabTo(page, "button Send");
  await page.keyboard.press("Enter");
  await until(async () => (await page.locator(".answer").first().getAttribute("data-phase")) === "done", "an answer");
  await tabTo(page, "button Answer");
  await page.keyboard.press("ArrowLeft");
  check((await focused(page)) === "button Explain", "the next tab");
  await until(async () => (await page.locator(".plan").first().innerText()).includes("Hello from the keyboard"), "the explained request");
  await tabTo(page, "a Calls", "Shift+Tab");
  await page.keyboard.press("Enter");
  await page.locator("tbody a").first().waitFor();
  await tabTo(page, "a Call req_");
  await page.keyboard.press("Enter");
  await page.getByRole("list", { name: "Where the time went" }).waitFor();
  await tabTo(page, "button Explain again today");
  await page.keyboard.press("Enter");
  await page.getByText("simulated calls").waitFor();
  await tabTo(page, "a Keys and budgets", "Shift+Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "New key" }).waitFor();
  await tabTo(page, "button New key");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await until(async () => (await focused(page)) === "button New key", "the focus after the dialog");
}

/** Load the page and its views several times without a cache. Return the bytes of one time and the shortest time to the first paint. */
async function load(page, context, url) {
  const client = await context.newCDPSession(page);
  await client.send("Network.enable");
  await client.send("Network.setCacheDisabled", { cacheDisabled: true });
  let bytes = 0;
  client.on("Network.loadingFinished", (event) => { bytes += event.encodedDataLength; });
  const paints = [];
  for (let visit = 0; visit < 3; visit += 1) {
    bytes = 0;
    await page.goto("about:blank");
    await page.goto(url);
    await page.locator(".target").first().waitFor();
    paints.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime));
    for (const view of ["Calls", "Playground", "Keys and budgets", "Break it"]) {
      await page.getByRole("link", { name: view, exact: true }).click();
      await page.getByRole("heading", { level: 1, name: view }).waitFor();
    }
  }
  return { bytes, paintMs: Math.min(...paints) };
}

run(async ({ page, context, args }) => {
  await page.goto(args.url);
  await page.locator(".target").first().waitFor();
  await use(page);
  return load(page, context, args.url);
});

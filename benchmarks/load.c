/* Load generator: each connection repeats its request as soon as the response is complete (closed loop), or requests begin at a
 * fixed rate (open loop), where a request that finds no free connection waits and its latency includes the wait.
 *
 * Every response is checked: status 200, and a JSON body with choices and a finish_reason, or a stream that also has the expected number of
 * events and [DONE]; other APIs have other words. Anything else is an error, and so is a broken connection.
 * Usage: load PORT CONNECTIONS SECONDS TIMES EVENTS KEY PATH RATE HEADERS < body
 *   EVENTS  events of a stream (0: the response is JSON); one fewer is accepted, because the usage event may be hidden
 *   TIMES   requests per connection (0: until SECONDS have passed; responses in flight are awaited)
 *   RATE    requests per second (0: closed loop); a run has RATE x SECONDS requests, even if they take longer
 *   HEADERS further header lines, each with its line end
 * Each "@@@@@@@@@@" in the body is replaced by the number of the request, so that no two requests are the same.
 * Without a body, the request is a GET, and every response with the status 200 is correct.
 * Prints one JSON object, with the times to the first byte, to the first content that the mock generates, and to the end. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 8192, MAX_BODY = 1 << 22, KEPT = 24 };
typedef enum { HEAD, FIXED, SIZE, DATA, DATA_END, TRAILER } State;

typedef struct {
    int fd, length, events, finished, done, right, times, line;
    long left;
    State state;
    double sent, first, content;
    char head[4096], last[KEPT + 1]; /* last bytes of the body, to find words that span two reads */
} Connection;

static Connection *connections;
static char *request, body[MAX_BODY], read_buffer[1 << 17];
static int request_length, port, wanted_times, wanted_events, poll_fd, active, timer_fd = -1;
static long completed, errors, total_events;
static double stop_at, *first_bytes, *first_contents, *whole;
static long counted, room;
/* Open loop: free connections, and the numbers of requests that began, that are due, and of the whole run. */
static Connection *free_connections[MAX_CONNECTIONS];
static int free_count;
static long begun, due, total;
static double began, rate;
/* The places in the request that contain its number, and the number. */
static const char number_mark[] = "@@@@@@@@@@";
static char *number_places[4096];
static int number_count;
static long number;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int connect_to(Connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) { close(c->fd); return 0; }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = c});
    return 1;
}

/* Send the next request, or close the connection if enough were sent. In an open loop, wait for the time of the next request. */
static void next(Connection *c) {
    if (rate && begun >= due && begun < total) {
        free_connections[free_count++] = c;
        return;
    }
    if (rate ? begun >= total : wanted_times ? c->times >= wanted_times : now() >= stop_at) {
        close(c->fd);
        active--;
        return;
    }
    c->times++;
    c->length = c->events = c->finished = c->done = c->right = c->line = 0;
    c->left = 0;
    c->state = HEAD;
    c->first = c->content = 0;
    memset(c->last, ' ', KEPT);
    char digits[24];
    snprintf(digits, sizeof digits, "%010ld", ++number);
    for (int i = 0; i < number_count; i++) memcpy(number_places[i], digits, sizeof number_mark - 1);
    c->sent = rate ? began + ++begun / rate : now();
    if (send(c->fd, request, request_length, MSG_NOSIGNAL) != request_length) {
        errors++;
        close(c->fd);
        active--;
    }
}

static void fail(Connection *c, const char *why) {
    if (errors++ < 3) fprintf(stderr, "load: %s after %d events: %.300s\n", why, c->events, c->head);
    close(c->fd);
    if (connect_to(c)) next(c);
    else active--;
}

/* Words of a correct response, of its end and, in a stream, of its last event, for each API. */
static const char *chat_words[] = {"\"choices\"", "\"finish_reason\":\"stop\"", "data: [DONE]"};
static const char *responses_words[] = {"\"output\"", "\"status\":\"completed\"", "event: response.completed"};
static const char *messages_words[] = {"\"content\"", "\"stop_reason\":\"end_turn\"", "event: message_stop"};
static const char *cohere_words[] = {"\"message\"", "\"finish_reason\":\"COMPLETE\"", "data: [DONE]"};
static const char *embeddings_words[] = {"\"embedding\"", "\"total_tokens\"", ""};
static const char *rerank_words[] = {"\"results\"", "\"relevance_score\"", ""};
static const char *tokenize_words[] = {"\"count\"", "\"max_model_len\"", ""};
static const char *any_words[] = {"", "", ""};
static const char **words = chat_words;
/* The beginning of each text that the mock generates. */
static const char content_mark[] = "\"....";

/* Process a piece of the body: count events, note the time of the first content, and find the words that make a response complete. */
static void look(Connection *c, const char *data, long length) {
    for (const char *at = data; wanted_events && (at = memchr(at, '\n', data + length - at)); at++)
        if (at > data ? at[-1] == '\n' : c->last[KEPT - 1] == '\n') c->events++;
    char seam[2 * KEPT + 1];
    int part = length < KEPT ? length : KEPT;
    memcpy(seam, c->last, KEPT);
    memcpy(seam + KEPT, data, part);
    const char *places[] = {seam, data};
    const long sizes[] = {KEPT + part, length};
    for (int i = 0; i < 2; i++) {
        if (!c->content && memmem(places[i], sizes[i], content_mark, sizeof content_mark - 1)) c->content = now();
        if (memmem(places[i], sizes[i], words[0], strlen(words[0]))) c->right = 1;
        if (memmem(places[i], sizes[i], words[1], strlen(words[1]))) c->finished = 1;
        if (memmem(places[i], sizes[i], words[2], strlen(words[2]))) c->done = 1;
    }
    if (length >= KEPT) memcpy(c->last, data + length - KEPT, KEPT);
    else memcpy(c->last, seam + part, KEPT);
}

static void complete(Connection *c) {
    int events_right = !wanted_events || c->events == wanted_events || c->events == wanted_events - 1;
    if (!c->right || !c->finished || !events_right || (wanted_events && !c->done)) {
        fail(c, "a wrong answer");
        return;
    }
    completed++;
    total_events += c->events;
    if (counted < room) {
        first_bytes[counted] = c->first - c->sent;
        first_contents[counted] = (c->content ? c->content : now()) - c->sent;
        whole[counted++] = now() - c->sent;
    }
    next(c);
}

/* Read a complete head. Returns the start of the body in data, -1 if more is needed, -2 if it is wrong. */
static long take_head(Connection *c, const char *data, long length) {
    int before = c->length;
    long room = (long)sizeof c->head - 1 - before, part = length < room ? length : room;
    memcpy(c->head + before, data, part);
    c->length += part;
    c->head[c->length] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) return part == length ? -1 : -2;
    if (strncmp(c->head, "HTTP/1.1 200", 12)) return -2;
    char *size = strcasestr(c->head, "\r\ncontent-length:");
    if (size && size < end) c->state = FIXED, c->left = atol(size + 17);
    else if (strcasestr(c->head, "chunked")) c->state = SIZE;
    else return -2;
    if (!c->first) c->first = now();
    return end + 4 - c->head - before;
}

/* Decode body bytes. Returns 1 if the response is complete, 0 if more is needed, -1 if the framing is wrong. */
static int take_body(Connection *c, const char *data, long length) {
    while (length > 0 || (c->state == FIXED && !c->left)) {
        if (c->state == FIXED || c->state == DATA) {
            long part = c->left < length ? c->left : length;
            look(c, data, part);
            c->left -= part, data += part, length -= part;
            if (!c->left && c->state == FIXED) return length ? -1 : 1;
            if (!c->left) c->state = DATA_END;
            continue;
        }
        char byte = *data++;
        length--;
        if (c->state == SIZE && byte == '\n') c->line = 0, c->state = c->left ? DATA : TRAILER;
        else if (c->state == SIZE && byte != '\r') {
            int digit = byte >= '0' && byte <= '9' ? byte - '0' : (byte | 32) >= 'a' && (byte | 32) <= 'f' ? (byte | 32) - 'a' + 10 : -1;
            if (digit < 0) return -1;
            c->left = c->left * 16 + digit;
        } else if (c->state == DATA_END && byte == '\n') c->state = SIZE;
        else if (c->state == TRAILER && byte == '\n') {
            if (!c->line) return length ? -1 : 1;
            c->line = 0;
        } else if (c->state == TRAILER && byte != '\r') c->line++;
    }
    return 0;
}

static void receive(Connection *c) {
    ssize_t got = recv(c->fd, read_buffer, sizeof read_buffer, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) { fail(c, "a broken connection"); return; }
    long from = 0;
    if (c->state == HEAD) {
        from = take_head(c, read_buffer, got);
        if (from == -1) return;
        if (from == -2) { fail(c, "a refusal"); return; }
    }
    int state = take_body(c, read_buffer + from, got - from);
    if (state < 0) fail(c, "wrong framing");
    else if (state) complete(c);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Begin the requests that are due, as far as connections are free. After the last one, close the free connections. */
static void begin_due(void) {
    unsigned long expired;
    if (read(timer_fd, &expired, sizeof expired) == sizeof expired) due += expired;
    if (due > total) due = total;
    while (free_count && (begun < due || begun == total)) next(free_connections[--free_count]);
}

static void start_timer(void) {
    long interval = (long)(1e9 / rate);
    struct timespec period = {.tv_sec = interval / 1000000000, .tv_nsec = interval % 1000000000};
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    timerfd_settime(timer_fd, 0, &(struct itimerspec){.it_interval = period, .it_value = period}, NULL);
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer_fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = NULL});
}

static double percentile(const double *values, int of_hundred) {
    return counted ? values[counted * of_hundred / 100] * 1e3 : 0;
}

int main(int argc, char **argv) {
    if (argc != 10) { fprintf(stderr, "usage: load PORT CONNECTIONS SECONDS TIMES EVENTS KEY PATH RATE HEADERS < body\n"); return 2; }
    static const struct { const char *path, **words; } of_paths[] = {
        {"/responses", responses_words}, {"/messages", messages_words}, {"/v2/chat", cohere_words}, {"/embeddings", embeddings_words},
        {"/rerank", rerank_words}, {"/tokenize", tokenize_words},
    };
    for (unsigned i = 0; i < sizeof of_paths / sizeof *of_paths; i++)
        if (strstr(argv[7], of_paths[i].path)) words = of_paths[i].words;
    int body_length = fread(body, 1, sizeof body, stdin), count = atoi(argv[2]);
    if (count > MAX_CONNECTIONS || body_length == MAX_BODY) { fprintf(stderr, "load: too many connections, or a body of more than 4 MB\n"); return 2; }
    if (!body_length) words = any_words;
    port = atoi(argv[1]), wanted_times = atoi(argv[4]), wanted_events = atoi(argv[5]), rate = atof(argv[8]);
    long most = body_length + strlen(argv[7]) + strlen(argv[6]) + strlen(argv[9]) + 512;
    request = malloc(most);
    request_length = snprintf(request, most, "%s %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
        "authorization: Bearer %s\r\nuser-agent: load\r\naccept: */*\r\n%s", body_length ? "POST" : "GET", argv[7], port, argv[6], argv[9]);
    if (body_length) request_length += snprintf(request + request_length, most - request_length, "content-length: %d\r\n", body_length);
    request_length += snprintf(request + request_length, most - request_length, "\r\n");
    memcpy(request + request_length, body, body_length);
    for (char *at = request + request_length; (at = memmem(at, body_length - (at - request - request_length), number_mark, sizeof number_mark - 1));)
        if (number_count < 4096) number_places[number_count++] = at, at += sizeof number_mark - 1;
        else break;
    request_length += body_length;
    connections = calloc(count, sizeof *connections);
    first_bytes = malloc((room = 1 << 20) * sizeof *first_bytes);
    first_contents = malloc(room * sizeof *first_contents);
    whole = malloc(room * sizeof *whole);
    poll_fd = epoll_create1(0);
    began = now();
    stop_at = began + atof(argv[3]);
    double deadline = stop_at + 30;
    total = (long)(rate * atof(argv[3]) + 0.5);
    if (rate) start_timer();
    for (int i = 0; i < count; i++) {
        if (!connect_to(&connections[i])) { errors++; continue; }
        active++;
        next(&connections[i]);
    }
    struct epoll_event ready[512];
    while (active > 0 && now() < deadline) {
        int found = epoll_wait(poll_fd, ready, 512, 1000);
        for (int i = 0; i < found; i++) {
            if (ready[i].data.ptr) receive(ready[i].data.ptr);
            else begin_due();
        }
    }
    errors += active;
    double seconds = now() - began;
    qsort(first_bytes, counted, sizeof *first_bytes, by_value);
    qsort(first_contents, counted, sizeof *first_contents, by_value);
    qsort(whole, counted, sizeof *whole, by_value);
    printf("{\"completed\": %ld, \"errors\": %ld, \"events\": %ld, \"seconds\": %.6f, \"first_p50_ms\": %.4f, \"first_p99_ms\": %.4f, "
        "\"content_p50_ms\": %.4f, \"content_p99_ms\": %.4f, \"p50_ms\": %.4f, \"p99_ms\": %.4f}\n", completed, errors, total_events, seconds,
        percentile(first_bytes, 50), percentile(first_bytes, 99), percentile(first_contents, 50), percentile(first_contents, 99),
        percentile(whole, 50), percentile(whole, 99));
    return errors != 0;
}

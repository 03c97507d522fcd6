/* Mock upstream with minimal cost: one thread, epoll, responses as JSON or as a stream. The end of the path selects the API:
 * /messages, /responses, /v2/chat, /embeddings, /rerank, /tokenize, /chat/completions or /completions. The connection of a POST to any
 * other path is closed. Messages, Responses and Cohere's chat have more events. A GET gets a list with one model, for proxies that
 * check the health of their upstreams or list models.
 *
 * The first or the last 2 KB of the body contain the pacing commands, so that no proxy needs configuration for them:
 *   #chunks=51#  events of a stream, including [DONE]
 *   #delay=500000#  microseconds before a JSON response, before the first content of a stream (which the events before it accompany, as
 *                servers send them), and between two events
 *   #form=1#     every content event lacks its object, creation time and index, and repeats the role
 *   #form=2#     every content event has an id, a creation time and a usage of its own
 *   #form=3#     every content event has a creation time and a member of its own, so that no two are alike
 * Each event is a separate send(). Usage: mock PORT (0: any); prints the port. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "answers.h"

enum { MAX_CONNECTIONS = 16384, MAX_REQUEST = 1 << 23, FIRST_ROOM = 1 << 14, EDGE = 2048 };

typedef struct {
    char *request;
    int length, room, next, chunks, usage, form, api, json;
    long delay, size, head;
    double due;
} Connection;

static Connection connections[MAX_CONNECTIONS];
static int pacing[MAX_CONNECTIONS], paced; /* descriptors with an open stream or a delayed JSON response */
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void pacing_ends(int fd) {
    for (int i = 0; i < paced; i++)
        if (pacing[i] == fd) pacing[i--] = pacing[--paced];
}

static void drop(int fd) {
    pacing_ends(fd);
    free(connections[fd].request);
    memset(&connections[fd], 0, sizeof connections[fd]);
    close(fd);
}

static long number(const char *text, const char *name, long otherwise) {
    const char *found = strstr(text, name);
    return found ? atol(found + strlen(name)) : otherwise;
}

/* Send one event. Returns 0 if the peer has disconnected. It waits for a peer that does not read: the load generator has a deadline. */
static int send_all(int fd, const char *data, int length) {
    while (length > 0) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR)) { usleep(50); continue; }
        if (sent <= 0) return 0;
        data += sent, length -= sent;
    }
    return 1;
}

/* Write content event `number` in an irregular form. Returns its length as a chunk of the body. */
static int irregular(char *out, int form, int number) {
    char event[512], before[512];
    if (form == 1)
        strcpy(before, "data: {\"id\":\"chatcmpl-bench\",\"model\":\"bench-model\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"");
    else
        sprintf(before, "data: {\"id\":\"%s%d\",\"object\":\"chat.completion.chunk\",\"created\":%d,\"model\":\"bench-model\",%s%d%s\"choices\":[{\"index\":0,"
            "\"delta\":{\"content\":\"", "chatcmpl-", form == 2 ? number : 0, 1700000000 + number, form == 2 ? "\"usage\":{\"prompt_tokens\":300,\"completion_tokens\":" : "\"x",
            number + 1, form == 2 ? "}," : "\":1,");
    pad(event, before, "\"},\"finish_reason\":null}]}\n\n", form == 1 ? EVENT_BYTES : EVENT_BYTES + 30);
    return sprintf(out, "%x\r\n%s\r\n", (unsigned)strlen(event), event);
}

static int event_kind(const Connection *c) {
    const Script *script = &scripts[c->api];
    int left = c->chunks - c->next;
    if (c->next < script->firsts && !c->form) return script->first[c->next];
    if (c->api > COMPLETIONS || c->usage || left == 1) return left > script->lasts ? script->between : script->last[script->lasts - left];
    return left == 2 ? script->last[0] : script->between;
}

/* Send the next event if it is due. Returns 1 while the connection is open. Streams send one event per turn, so that each event
   arrives alone, like the tokens of a model. */
static int stream(int fd) {
    Connection *c = &connections[fd];
    if (c->next < c->chunks) {
        if (c->delay && now() < c->due) return 1;
        if (c->json) {
            c->chunks = 0;
            pacing_ends(fd);
            return send_all(fd, answers[c->api], answer_length[c->api]);
        }
        int kind = event_kind(c), own = c->form && kind == CONTENT;
        char event[600];
        int length = own ? irregular(event, c->form, c->next) : event_length[kind];
        if (!send_all(fd, own ? event : events[kind], length)) return 0;
        if (c->next >= scripts[c->api].firsts) c->due = now() + c->delay / 1e6;
        c->next++;
        if (c->next < c->chunks) return 1;
    }
    c->chunks = 0;
    pacing_ends(fd);
    return 1;
}

static int answer(int fd, const char *body, long size) {
    Connection *c = &connections[fd];
    if (!strncmp(c->request, "GET ", 4)) {
        static const char empty[] = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 53\r\n\r\n"
            "{\"object\":\"list\",\"data\":[{\"id\":\"bench\"}],\"ok\":\"true\"}";
        return send_all(fd, empty, sizeof empty - 1);
    }
    const char *end = strstr(c->request, " HTTP/");
    for (c->api = 0; end && c->api < APIS; c->api++)
        if (end - c->request > (long)strlen(endings[c->api]) && !strncmp(end - strlen(endings[c->api]), endings[c->api], strlen(endings[c->api]))) break;
    if (!end || c->api == APIS) return 0;
    /* Only the two ends of a long body are searched, so that its length costs the mock no more than reading it. */
    char edges[2 * EDGE + 1];
    long first = size < EDGE ? size : EDGE, last = size - first < EDGE ? size - first : EDGE;
    memcpy(edges, body, first);
    memcpy(edges + first, body + size - last, last);
    edges[first + last] = 0;
    c->json = !strstr(edges, "\"stream\":true") && !strstr(edges, "\"stream\": true");
    c->delay = number(edges, "#delay=", 0);
    if (c->json && !c->delay) return send_all(fd, answers[c->api], answer_length[c->api]);
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    c->chunks = c->json ? 1 : number(edges, "#chunks=", 51) + (c->api == MESSAGES || c->api == COHERE ? 2 : c->api == RESPONSES ? 4 : 0);
    c->form = number(edges, "#form=", 0);
    c->usage = strstr(edges, "include_usage") != NULL;
    c->next = 0;
    c->due = now() + c->delay / 1e6;
    pacing[paced++] = fd;
    return c->json || (send_all(fd, head, sizeof head - 1) && stream(fd));
}

/* Read received data. Returns 1 while the connection is open. The buffer of a request grows with the request and is freed afterwards. */
static int receive(int fd) {
    Connection *c = &connections[fd];
    if (!c->request) c->request = malloc((c->room = FIRST_ROOM) + 1);
    if (c->length == c->room && c->room < MAX_REQUEST) c->request = realloc(c->request, (c->room *= 4) + 1);
    ssize_t got = recv(fd, c->request + c->length, c->room - c->length, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
    if (got <= 0) return 0;
    c->length += got;
    c->request[c->length] = 0;
    if (!c->head) {
        char *end = strstr(c->request, "\r\n\r\n");
        if (!end) return c->length < FIRST_ROOM; /* the head of a request fits in the first buffer */
        char *header = strcasestr(c->request, "content-length:");
        c->head = end + 4 - c->request;
        c->size = header && header < end ? atol(header + 15) : 0;
        if (strcasestr(c->request, "chunked") && strcasestr(c->request, "chunked") < end) return 0;
    }
    if (c->size > MAX_REQUEST / 2) return 0;
    if (c->head + c->size > c->length) return 1;
    int alive = answer(fd, c->request + c->head, c->size);
    c->length = c->head = c->size = 0;
    free(c->request);
    c->request = NULL;
    return alive;
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096)) { perror("mock"); exit(1); }
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void accept_all(int poll, int listener) {
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MAX_CONNECTIONS) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
    }
}

int main(int argc, char **argv) {
    struct epoll_event ready[512];
    prepare_chat();
    prepare_messages();
    prepare_cohere();
    prepare_responses();
    int listener = listen_on(argc > 1 ? atoi(argv[1]) : 0), poll = epoll_create1(0);
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
    for (;;) {
        /* The next due time, with the precision of ppoll(): epoll_wait() has only milliseconds. */
        double due = paced ? now() + 3600 : 0;
        for (int i = 0; i < paced && due; i++) {
            const Connection *c = &connections[pacing[i]];
            if (!c->delay) due = 0;
            else if (c->due < due) due = c->due;
        }
        if (due) {
            double wait = due - now();
            struct timespec patience = {.tv_sec = wait > 0 ? (long)wait : 0, .tv_nsec = wait > 0 ? (long)((wait - (long)wait) * 1e9) : 0};
            ppoll(&(struct pollfd){.fd = poll, .events = POLLIN}, 1, &patience, NULL);
        }
        int count = epoll_wait(poll, ready, 512, paced ? 0 : -1);
        for (int i = 0; i < count; i++) {
            if (ready[i].data.fd == listener) accept_all(poll, listener);
            else if (!receive(ready[i].data.fd)) drop(ready[i].data.fd);
        }
        for (int i = paced - 1; i >= 0; i--) {
            if (i >= paced) continue;
            int fd = pacing[i];
            if (!stream(fd)) drop(fd);
        }
    }
}

#!/usr/bin/env python3
"""A till:  python3 till.py 127.0.0.1:8680 till.secret 420 EUR "sale 1041" [id of a charge begun before]"""
import http.client, json, sys, time, uuid

ADDRESS, SECRET, MINOR, CURRENCY, SALE = sys.argv[1:6]
HEADERS = {"Authorization": "Bearer " + open(SECRET).read().strip(), "Content-Type": "application/json"}
NOW = f"{time.time_ns() // 10**6:012x}"  # A UUIDv7. A till keeps it with the sale before it asks: see docs/TILL.md.
CHARGE = sys.argv[6] if len(sys.argv) > 6 else f"{NOW[:8]}-{NOW[8:]}-7{str(uuid.uuid4())[15:]}"
ENDS = {"cancelled": "cancelled", "released": "declined", "expired": "nobody paid in time"}
BROKEN = (OSError, http.client.HTTPException)

def ask(method, path, body=None, more={}):
    """Asks until somebody knows: the same request again does nothing twice."""
    while True:
        try:
            line = http.client.HTTPConnection(ADDRESS, timeout=40)  # a stream says something every 15 s
            line.request(method, "/v1/charges" + path, json.dumps(body) if body else None, {**HEADERS, **more})
            answer = line.getresponse()
            if answer.status < 300:
                return answer
            problem = json.load(answer)
            if answer.status != 503:
                sys.exit(f"{problem['title']}: {problem['next_step']}")
            print("not possible now:", problem["next_step"], flush=True)
        except BROKEN:
            problem = {}
        time.sleep(problem.get("retry_after_s", 1))

def follow(last=""):
    """Every state of the charge, each once, however often the stream breaks."""
    while (stream := ask("GET", f"/{CHARGE}/events", more={"Last-Event-ID": last})).status == 200:
        try:
            for field, _, value in (line.decode().strip().partition(":") for line in stream):
                last = value if field == "id" else last
                if field == "data":
                    yield json.loads(value)
        except BROKEN:
            pass

def told():
    for charge in follow():
        print(charge["stage"], "(old: the authority is away)" if charge["stale"] else "", flush=True)
        if charge["stage"] == "paid":
            return print("paid, mark", charge["mark"])
        if charge["stage"] == "ended":
            sys.exit(ENDS[charge["reason"]])

def start():
    amount = {"amount_minor": int(MINOR), "currency": CURRENCY}
    ask("POST", "", {"charge": CHARGE, "amount": amount, "reference": SALE})

try:
    start()
    told()
except KeyboardInterrupt:  # Ctrl-C cancels; what came of it is told like everything else: it may be paid already.
    start()  # A cancel must not overtake a start without an answer, which would then come on offer.
    ask("DELETE", f"/{CHARGE}")
    told()

/* Switch, kill and failover of one pod. README.md says what is what in the code, and how to read this.
 * Checked by `make spec`, which also breaks each rule once, by -DBREAK_…, and wants the check to fail. */

#ifndef MOVES
#define MOVES 2   /* switches that people begin */
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef FAILS
#define FAILS 0   /* failovers of Redis to a replica without the last writes */
#endif
#ifndef DEATHS
#define DEATHS 1  /* drivers that stop between two steps, or in the middle of one */
#endif
#ifndef FIRST
#define FIRST 1   /* the stage in which the pod begins */
#endif
#define WRITES 2
#define DRIVERS 2

/* A fence, in one number. Stages: 0 redis-only, 1 shadow, 2 live, 3 mysql-only. */
#define FENCE(e,s,o,f) ((e)*16 + (s)*4 + (o)*2 + (f))
#define EPOCH(f)  ((f)/16)
#define STAGE(f)  (((f)/4)%4)
#define OPEN(f)   (((f)/2)%2)
#define FILLED(f) ((f)%2)
#define CLOSED(f) (OPEN(f) -> (f)-2 : (f))
#define OUTRANKS(f,g) (EPOCH(f) > EPOCH(g) || (EPOCH(f) == EPOCH(g) && OPEN(f) && !OPEN(g)))

/* What a store of either side admits (backends.Fence). */
#define REDIS_DECIDES(f)  (EPOCH(f) > 0 && OPEN(f) && STAGE(f) < 2)
#define MYSQL_DECIDES(f)  (EPOCH(f) > 0 && OPEN(f) && STAGE(f) >= 2)
#define REDIS_FOLLOWS(f)  (EPOCH(f) > 0 && OPEN(f) && STAGE(f) == 2)
#define MYSQL_FOLLOWS(f)  (EPOCH(f) > 0 && OPEN(f) && STAGE(f) < 2)
#define ARBITRATES(f)     (STAGE(f) == 2 && FILLED(f))

/* killswitch.Acknowledgeable. A replaced Redis admits nothing until its fence is raised again. */
#define BY_REDIS (whole && REDIS_DECIDES(redis))
#define BY_MYSQL (MYSQL_DECIDES(mysql) && (!ARBITRATES(mysql) || (whole && REDIS_FOLLOWS(redis) && EPOCH(redis) == EPOCH(mysql))))

#define RAISE_R 1
#define RAISE_M 2
#define DRAIN 3
#define RESTORE 4
#define SERVE 5

/* The stores. A write is one hold; what matters of it is who knows it, and who was told. */
short redis, mysql;
bool whole = 1;           /* Redis is the server at which its fence was raised */
bool in_redis[WRITES], in_mysql[WRITES];
bool out_redis[WRITES], out_mysql[WRITES];   /* in the outbox of that store */
bool fresh[WRITES];     /* no replica of Redis has it yet */
bool told[WRITES];      /* acknowledged */
bool gone[WRITES];      /* lost by Redis before MySQL had it: nobody can bring it back, it is listed */

/* The record in the control store. */
byte st, ep, maxep;
bool fil;
bool settle_due, backfill_due, restore_due, adopted;
bool sw;                /* a switch is open */
byte plan, from_e, to_e, undo_e, step, undoneat, lead, serial;
bool undo;
short was;
byte moves = MOVES, deaths = DEATHS, kills = KILLS, fails = FAILS;

#define RECORD FENCE(ep, st, 1, fil)
/* A hold that may no longer be lost. */
#define KEPT(i) (told[i] && !gone[i])

/* P1 and P4, after each step of anybody. */
inline check() {
  assert(!(BY_REDIS && BY_MYSQL));
  assert(!BY_REDIS || ((!KEPT(0) || in_redis[0]) && (!KEPT(1) || in_redis[1])));
  assert(!BY_MYSQL || ((!KEPT(0) || in_mysql[0]) && (!KEPT(1) || in_mysql[1])))
}

/* Local copies of the record, under the names that moves.pml uses. */
#define LOCALS byte c_plan, c_from, c_epoch, c_undoe, c_step, c_undoneat, c_serial; bool c_undo; short c_was; \
  byte s_act, limit, opened; short s_fence, have, asked; bool s_best, s_anew, yes

inline copy() {
  c_plan = plan; c_from = from_e; c_epoch = to_e; c_undoe = undo_e; c_step = step; c_undoneat = undoneat; c_undo = undo; c_was = was; c_serial = serial
}
inline forget() { c_plan = 0; c_from = 0; c_epoch = 0; c_undoe = 0; c_step = 0; c_undoneat = 0; c_undo = 0; c_was = 0; c_serial = 0;
  s_act = 0; s_fence = 0; have = 0; asked = 0; s_best = 0; s_anew = 0; yes = 0; limit = 0; opened = 0 }

#include "moves.pml"

inline clear() { sw = 0; plan = 0; from_e = 0; to_e = 0; undo_e = 0; step = 0; undoneat = 0; lead = 0; undo = 0; was = 0 }

/* Only what means something in the stage stays due (fitting). */
inline fitting() {
  if :: st >= 2 -> settle_due = 0; restore_due = 0 :: else fi;
  if :: st == 0 || st == 3 || (st == 2 && fil) -> backfill_due = 0 :: else fi
}

/* adopt: the record follows a fence. */
inline adopt(f) {
  opened = 9;
  if :: sw -> may_open_from();
     :: else -> opened = 9
  fi;
  yes = (st >= 2) || (sw && (undo -> undoneat >= opened : step >= opened));
  if :: sw && (plan == 8 || plan == 9) -> restore_due = 1; backfill_due = 1 :: else fi;
  st = STAGE(f); ep = EPOCH(f); fil = ARBITRATES(f);
  if :: ep > maxep -> maxep = ep :: else fi;
  if :: st < 2 && yes -> settle_due = 1; backfill_due = 1
     :: st == 2 && !fil -> backfill_due = 1
     :: else
  fi;
  fitting(); clear(); adopted = 1
}

/* Reconcile without an open switch, or one that is given up (abandon). have is Redis's fence as it is shown. */
#define SHOWN (whole -> redis : CLOSED(redis))
#define M_OVER (EPOCH(mysql) > EPOCH(redis) && MYSQL_DECIDES(mysql))
#define HIGHEST ((EPOCH(redis) == 0 || M_OVER) -> mysql : redis)
#define ALONE(f) (STAGE(f) >= 2 && !ARBITRATES(f))
#define S_REDIS (REDIS_DECIDES(have) && EPOCH(have) >= ep)
#define S_MYSQL (MYSQL_DECIDES(mysql) && EPOCH(mysql) >= ep)
inline reconcile() {
  have = SHOWN;
  if :: S_MYSQL && ALONE(mysql) && (!REDIS_DECIDES(have) || EPOCH(mysql) > EPOCH(have)) ->
          if :: EPOCH(mysql) > ep -> adopt(mysql) :: else -> goto_lost() fi
     :: else ->
        if :: S_REDIS && (!MYSQL_DECIDES(mysql) || EPOCH(have) > EPOCH(mysql)) ->
                if :: EPOCH(have) > ep -> adopt(have) :: else -> goto_lost() fi
           :: else ->
              if :: S_MYSQL && REDIS_FOLLOWS(have) && EPOCH(have) == EPOCH(mysql) ->
                      if :: EPOCH(mysql) > ep -> adopt(mysql) :: else -> goto_lost() fi
                 :: else ->
                      if :: EPOCH(HIGHEST) > ep -> asked = (OPEN(HIGHEST) -> HIGHEST : HIGHEST+2); adopt(asked) :: else -> goto_lost() fi
              fi
        fi
  fi;
  have = 0; asked = 0; yes = 0; opened = 0
}
/* Neither store is ahead of the record: an open switch is given up all the same. */
inline goto_lost() { if :: sw -> asked = RECORD; adopt(asked) :: else fi }

inline begin(p) {
  sw = 1; plan = p; from_e = ep; maxep = maxep+1; to_e = maxep; step = 0; undo = 0; undoneat = 0; undo_e = 0; serial = serial+1;
  was = SHOWN; lead = me
}
inline top() { /* an epoch above all that are seen */
  if :: EPOCH(redis) > maxep -> maxep = EPOCH(redis) :: else fi;
  if :: EPOCH(mysql) > maxep -> maxep = EPOCH(mysql) :: else fi
}
inline turn() { maxep = maxep+1; undo = 1; undo_e = maxep; undoneat = step; step = 0 }

#define AGREED (SHOWN == RECORD && mysql == RECORD)
#define QUIET (!sw && AGREED && !settle_due && !backfill_due && !restore_due && !(st == 2 && !fil))
#define MINE (sw && lead == me && serial == c_serial)

/* What a failed step makes of the switch (Run.failed). lost: a kill, or a replaced Redis, was met. */
inline failed(lost) {
  if
  :: !MINE -> skip
  :: MINE && lost -> reconcile()
  :: MINE && !lost ->
     no_return();
     if :: !undo && step < limit -> turn()
        :: else -> skip /* stuck: the next driver tries again */
     fi
  fi;
  check()
}
inline advance() { if :: MINE -> step = step+1 :: else fi }

inline serve() {
  have = SHOWN; copy(); on_path();
  if
  :: !yes -> reconcile()
  :: else ->
     st = STAGE(s_fence); ep = EPOCH(s_fence); fil = ARBITRATES(s_fence); may_open_from();
     if
     :: undo && undoneat >= opened -> settle_due = 1; backfill_due = 1
     :: undo && plan == 7 -> backfill_due = 1
     :: !undo && (plan == 8 || plan == 9) -> restore_due = 1; backfill_due = 1
     :: !undo && plan == 0 -> backfill_due = 1
     :: !undo && st == 2 && !fil -> backfill_due = 1
     :: else
     fi;
     fitting(); clear(); adopted = 0
  fi
}

/* A proxy that believes in some fence which once was served, and sends one write. Its steps are as far apart as one likes. */
proctype writer(byte i) {
  short f;
  atomic { if :: BY_REDIS -> f = redis :: BY_MYSQL -> f = mysql fi }
  if
  :: atomic { STAGE(f) < 2 ->
       if
#ifdef BREAK_REDIS_IGNORES_EPOCH
       :: whole ->
#else
       :: whole && REDIS_DECIDES(redis) && EPOCH(redis) == EPOCH(f) ->
#endif
            in_redis[i] = 1; fresh[i] = 1; told[i] = 1;
            if :: STAGE(redis) == 1 -> out_redis[i] = 1 :: else fi
       :: else
       fi;
       check() }
  :: atomic { STAGE(f) >= 2 ->
       if
#ifdef BREAK_MYSQL_IGNORES_EPOCH
       :: 1 ->
#else
       :: MYSQL_DECIDES(mysql) && EPOCH(mysql) == EPOCH(f) ->
#endif
            in_mysql[i] = 1;
            if :: STAGE(mysql) == 2 -> out_mysql[i] = 1 :: else fi;
            if :: !ARBITRATES(f) -> told[i] = 1; f = 0 :: else fi
       :: else -> f = 0
       fi;
       check() };
     atomic {
       if
#ifdef BREAK_LIVE_WITHOUT_REDIS
       :: f != 0 -> told[i] = 1
#else
       :: f != 0 && whole && REDIS_FOLLOWS(redis) && EPOCH(redis) == EPOCH(f) -> in_redis[i] = 1; fresh[i] = 1; told[i] = 1
#endif
       :: else
       fi;
       f = 0; check() }
  fi
}

/* The mirror: lanes and sweeps of all proxies. */
proctype mirror() {
end:
  do
  :: atomic { out_redis[0] && MYSQL_FOLLOWS(mysql) -> in_mysql[0] = 1; out_redis[0] = 0; check() }
  :: atomic { out_redis[1] && MYSQL_FOLLOWS(mysql) -> in_mysql[1] = 1; out_redis[1] = 0; check() }
  :: atomic { out_mysql[0] && MYSQL_DECIDES(mysql) && whole && REDIS_FOLLOWS(redis) && EPOCH(redis) == EPOCH(mysql) -> in_redis[0] = 1; fresh[0] = 1; out_mysql[0] = 0; check() }
  :: atomic { out_mysql[1] && MYSQL_DECIDES(mysql) && whole && REDIS_FOLLOWS(redis) && EPOCH(redis) == EPOCH(mysql) -> in_redis[1] = 1; fresh[1] = 1; out_mysql[1] = 0; check() }
  od
}

/* A kill, by anybody, at any time, without a record: a reading, and a compare-and-set. */
proctype killer() {
  short have, to;
  do
  :: atomic { kills > 0 -> kills = kills-1; have = SHOWN;
       if
       :: (STAGE(have) == 2 && OPEN(have) && FILLED(have)) || (STAGE(have) == 1 && !OPEN(have)) -> to = FENCE(EPOCH(have)+1,1,1,0)
#ifdef BREAK_KILL_IN_FILLING
       :: STAGE(have) == 2 && OPEN(have) && !FILLED(have) -> to = FENCE(EPOCH(have)+1,1,1,0)
#endif
       :: STAGE(have) == 1 && OPEN(have) -> to = FENCE(EPOCH(have)+1,0,1,0)
       :: else -> to = 0
       fi };
     atomic {
       if
#ifdef BREAK_KILL_REVIVES
       :: to != 0 && OUTRANKS(to, redis) -> whole = 1;
#else
       :: to != 0 && whole && EPOCH(redis) == EPOCH(have) && OUTRANKS(to, redis) ->
#endif
            redis = to; fresh[0] = 0; fresh[1] = 0
       :: else
       fi;
       have = 0; to = 0; check() }
  :: else -> break
  od
}

/* Redis is replaced by a replica that lacks some of what came after the last raise of the fence. */
proctype failover() {
  do
  :: atomic { fails > 0 -> fails = fails-1; whole = 0;
       if :: fresh[0] -> in_redis[0] = 0; out_redis[0] = 0; gone[0] = gone[0] || !in_mysql[0] :: skip fi;
       if :: fresh[1] -> in_redis[1] = 0; out_redis[1] = 0; gone[1] = gone[1] || !in_mysql[1] :: skip fi;
       fresh[0] = 0; fresh[1] = 0; check() }
  :: atomic { fails == 0 -> break }
  od
}

inline raise_redis() {
  have = SHOWN; expected();
  if
  :: have == s_fence -> asked = 2      /* done already */
  :: have != s_fence && !s_best && !yes -> asked = 1
  :: else -> asked = 0
  fi
}
/* The compare-and-set, some time after the reading. asked: 0 not yet known, 1 a kill or a replaced Redis, 2 done, 3 refused. */
inline set_redis() {
  if
  :: asked != 0 -> skip
#ifdef BREAK_RAISE_WITHOUT_COMPARE
  :: asked == 0 && OUTRANKS(s_fence, redis) -> redis = s_fence; whole = 1; fresh[0] = 0; fresh[1] = 0; asked = 2
#else
  :: asked == 0 && OUTRANKS(s_fence, redis) && (s_best || EPOCH(redis) == EPOCH(have)) && (whole || ((s_anew || s_best) && EPOCH(s_fence) > EPOCH(redis))) ->
       redis = s_fence; whole = 1; fresh[0] = 0; fresh[1] = 0; asked = 2
#endif
  :: else -> asked = (redis == s_fence && whole -> 2 : (s_best -> 2 : 1))
  fi
}
inline set_mysql() {
  if
  :: OUTRANKS(s_fence, mysql) -> mysql = s_fence; asked = 2
  :: else -> asked = (mysql == s_fence -> 2 : (s_best -> 2 : 3))
  fi
}
inline drained() {
  if
  :: STAGE(s_fence) < 2 && MYSQL_FOLLOWS(mysql) && EPOCH(mysql) == EPOCH(s_fence) ->
       in_mysql[0] = in_mysql[0] || out_redis[0]; in_mysql[1] = in_mysql[1] || out_redis[1]; out_redis[0] = 0; out_redis[1] = 0; asked = 2
  :: STAGE(s_fence) == 2 && whole && REDIS_FOLLOWS(redis) && EPOCH(redis) == EPOCH(s_fence) ->
       in_redis[0] = in_redis[0] || out_mysql[0]; in_redis[1] = in_redis[1] || out_mysql[1]; out_mysql[0] = 0; out_mysql[1] = 0; asked = 2
  :: else -> asked = 4 /* the fence under which it drains has moved */
  fi
}
inline restored() {
  if
  :: whole && EPOCH(redis) == EPOCH(s_fence) && STAGE(redis) < 2 && MYSQL_FOLLOWS(mysql) ->
       in_mysql[0] = in_mysql[0] || out_redis[0]; in_mysql[1] = in_mysql[1] || out_redis[1]; out_redis[0] = 0; out_redis[1] = 0;
       in_redis[0] = in_redis[0] || in_mysql[0]; in_redis[1] = in_redis[1] || in_mysql[1]
  :: whole && EPOCH(redis) == EPOCH(s_fence) && REDIS_FOLLOWS(redis) && mysql == s_fence ->
       in_redis[0] = in_redis[0] || in_mysql[0]; in_redis[1] = in_redis[1] || in_mysql[1]; out_mysql[0] = 0; out_mysql[1] = 0;
       fresh[0] = in_redis[0]; fresh[1] = in_redis[1]
  :: else
  fi;
  asked = 2
}

/* A driver: takes open switches over, begins others, does what is due, and may die between any two steps. */
proctype driver(byte me) {
  LOCALS;
end:
  do
  :: atomic { !sw && !(SHOWN == RECORD && mysql == RECORD) && (EPOCH(SHOWN) > ep || EPOCH(mysql) > ep) -> copy(); reconcile(); forget(); check() }
  /* a move that somebody asks for; nothing may be due where MySQL would become the truth */
  :: atomic { moves > 0 && !sw && SHOWN == RECORD ->
       moves = moves-1; top();
       if
       :: st == 0 -> begin(0)
       :: st == 1 && mysql == RECORD && !settle_due && !backfill_due && !restore_due -> begin(1)
       :: st == 1 -> begin(2)
       :: st == 2 && fil -> begin(3)
       :: st == 2 && fil -> begin(4)
       :: st == 2 && !fil -> begin(5)
       :: st == 3 -> begin(6)
       fi; copy() }
  :: atomic { !sw && SHOWN == RECORD && mysql == RECORD && st == 2 && !fil && !backfill_due -> top(); begin(7); copy() }
  /* fences that disagree are realigned; a replaced Redis waits for an operator, who may come at any time */
  :: atomic { !sw && EPOCH(SHOWN) <= ep && EPOCH(mysql) <= ep && (SHOWN != RECORD || mysql != RECORD) ->
       top();
       if
       :: st < 2 && SHOWN == RECORD -> if :: OUTRANKS(RECORD, mysql) -> mysql = RECORD :: else -> begin(8+st) fi
       :: st == 3 && mysql == RECORD && whole -> if :: OUTRANKS(RECORD, redis) -> redis = RECORD; fresh[0] = 0; fresh[1] = 0 :: else -> begin(8+st) fi
       :: st == 2 && fil && !whole && EPOCH(redis) == ep -> begin(12)
       :: else -> begin(8+st)
       fi; copy(); check() }
  /* what a kill or a switch has left, each under fences that are at the record's */
  :: atomic { !sw && AGREED && settle_due ->
#ifndef BREAK_SETTLE_MIRRORS
       in_mysql[0] = (out_mysql[0] -> in_redis[0] : in_mysql[0]); in_mysql[1] = (out_mysql[1] -> in_redis[1] : in_mysql[1]);
#endif
       out_mysql[0] = 0; out_mysql[1] = 0; settle_due = 0; check() }
  :: atomic { !sw && AGREED && !settle_due && restore_due ->
       in_redis[0] = in_redis[0] || in_mysql[0]; in_redis[1] = in_redis[1] || in_mysql[1]; restore_due = 0; check() }
  :: atomic { !sw && AGREED && !settle_due && !restore_due && backfill_due ->
       if
       :: st == 1 -> in_mysql[0] = in_redis[0]; in_mysql[1] = in_redis[1]; out_redis[0] = 0; out_redis[1] = 0
       :: st == 2 -> in_redis[0] = in_mysql[0]; in_redis[1] = in_mysql[1]; fresh[0] = in_redis[0]; fresh[1] = in_redis[1]; out_mysql[0] = 0; out_mysql[1] = 0
       :: else
       fi;
       backfill_due = 0; check() }
  /* the driver of the open switch has been silent; one that lives but is slow goes on with what it had sent */
  :: atomic { sw && lead != me -> deaths > 0 || lead == 0;
       if :: lead != 0 -> deaths = deaths-1 :: else fi;
       lead = me; serial = serial+1; copy(); have = SHOWN; on_path();
       if
       :: !yes -> reconcile()
       :: yes && plan == 1 && !undo && step < 4 -> turn()
       :: else
       fi; forget(); check() }
  /* one step: what the record says is read, sent, and recorded, as far apart as one likes */
  :: atomic { sw && lead == me -> copy(); the_step();
       if :: s_act == RAISE_R -> raise_redis() :: else -> have = 0; asked = 0 fi };
     if
     :: atomic { s_act == RAISE_R -> set_redis(); check() }
     :: atomic { s_act == RAISE_M -> set_mysql(); check() }
     :: atomic { s_act == DRAIN ->
#ifdef BREAK_NO_DRAIN
          asked = 2
#else
          drained()
#endif
          ; check() }
     :: atomic { s_act == RESTORE ->
#ifdef BREAK_NO_RESTORE
          asked = 2
#else
          restored()
#endif
          ; check() }
     :: s_act == SERVE
     /* what the step needs does not answer */
     :: atomic { s_act != SERVE && deaths > 0 -> deaths = deaths-1; asked = (s_best || s_act == RESTORE -> 2 : 4) }
     fi;
     atomic {
       if
       :: s_act == SERVE && MINE -> serve()
       :: s_act == SERVE && !MINE -> skip
       :: s_act != SERVE && asked == 2 -> advance()
       :: s_act != SERVE && asked == 1 -> failed(1)
       :: s_act != SERVE && asked == 3 -> no_return(); if :: MINE && (undo || step >= limit) -> failed(1) :: else -> failed(0) fi
       :: s_act != SERVE && asked == 4 -> failed(0)
       fi;
       forget(); check() }
  od
}

/* When nobody can do anything any more: the switch has ended, whoever drove it, and one store decides. */
active proctype judge() {
  atomic { timeout -> assert(!sw); assert(BY_REDIS || BY_MYSQL); assert(QUIET) }
}

init {
  atomic {
    st = FIRST; ep = 1; maxep = 1; fil = (FIRST == 2);
    redis = FENCE(1, FIRST, 1, (FIRST == 2)); mysql = redis;
    run driver(1); run driver(2); run writer(0); run writer(1); run mirror(); run killer(); run failover()
  }
}

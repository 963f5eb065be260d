/* Made from killswitch.Steps, UndoSteps and NoReturn by killswitch/spec_test.go; do not edit. */
inline the_step() {
  if
  :: c_plan == 0 && c_undo == 0 && c_step == 0 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,1,1,0); s_best = 0; s_anew = 0 /* open MySQL, shadow */
  :: c_plan == 0 && c_undo == 0 && c_step == 1 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,1,1,0); s_best = 0; s_anew = 0 /* open Redis, shadow */
  :: c_plan == 0 && c_undo == 0 && c_step == 2 -> s_act = SERVE; s_fence = FENCE(c_epoch,1,1,0); s_best = 0; s_anew = 0 /* serve shadow */
  :: c_plan == 0 && c_undo == 1 && c_step == 0 -> s_act = RAISE_R; s_fence = FENCE(c_undoe,0,1,0); s_best = 0; s_anew = 0 /* open Redis, redis-only */
  :: c_plan == 0 && c_undo == 1 && c_step == 1 -> s_act = RAISE_M; s_fence = FENCE(c_undoe,0,1,0); s_best = 1; s_anew = 0 /* open MySQL, redis-only */
  :: c_plan == 0 && c_undo == 1 && c_step == 2 -> s_act = SERVE; s_fence = FENCE(c_undoe,0,1,0); s_best = 0; s_anew = 0 /* serve redis-only */
  :: c_plan == 1 && c_undo == 0 && c_step == 0 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,1,0,0); s_best = 0; s_anew = 0 /* close Redis, shadow */
  :: c_plan == 1 && c_undo == 0 && c_step == 1 -> s_act = DRAIN; s_fence = FENCE(c_from,1,1,0); s_best = 0; s_anew = 0 /* drain outbox of Redis */
  :: c_plan == 1 && c_undo == 0 && c_step == 2 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,2,1,1); s_best = 0; s_anew = 0 /* open Redis, live */
  :: c_plan == 1 && c_undo == 0 && c_step == 3 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,2,1,1); s_best = 0; s_anew = 0 /* open MySQL, live */
  :: c_plan == 1 && c_undo == 0 && c_step == 4 -> s_act = SERVE; s_fence = FENCE(c_epoch,2,1,1); s_best = 0; s_anew = 0 /* serve live */
  :: c_plan == 1 && c_undo == 1 && c_step == 0 -> s_act = RAISE_R; s_fence = FENCE(c_undoe,1,1,0); s_best = 0; s_anew = 0 /* open Redis, shadow */
  :: c_plan == 1 && c_undo == 1 && c_step == 1 -> s_act = RAISE_M; s_fence = FENCE(c_undoe,1,1,0); s_best = 1; s_anew = 0 /* open MySQL, shadow */
  :: c_plan == 1 && c_undo == 1 && c_step == 2 -> s_act = SERVE; s_fence = FENCE(c_undoe,1,1,0); s_best = 0; s_anew = 0 /* serve shadow */
  :: c_plan == 2 && c_undo == 0 && c_step == 0 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,0,1,0); s_best = 0; s_anew = 0 /* open Redis, redis-only */
  :: c_plan == 2 && c_undo == 0 && c_step == 1 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,0,1,0); s_best = 1; s_anew = 0 /* open MySQL, redis-only */
  :: c_plan == 2 && c_undo == 0 && c_step == 2 -> s_act = SERVE; s_fence = FENCE(c_epoch,0,1,0); s_best = 0; s_anew = 0 /* serve redis-only */
  :: c_plan == 3 && c_undo == 0 && c_step == 0 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,2,0,1); s_best = 0; s_anew = 0 /* close MySQL, live */
  :: c_plan == 3 && c_undo == 0 && c_step == 1 -> s_act = DRAIN; s_fence = FENCE(c_from,2,1,1); s_best = 0; s_anew = 0 /* drain outbox of MySQL */
  :: c_plan == 3 && c_undo == 0 && c_step == 2 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,1,1,0); s_best = 0; s_anew = 0 /* open MySQL, shadow */
  :: c_plan == 3 && c_undo == 0 && c_step == 3 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,1,1,0); s_best = 0; s_anew = 0 /* open Redis, shadow */
  :: c_plan == 3 && c_undo == 0 && c_step == 4 -> s_act = SERVE; s_fence = FENCE(c_epoch,1,1,0); s_best = 0; s_anew = 0 /* serve shadow */
  :: c_plan == 3 && c_undo == 1 && c_step == 0 -> s_act = RAISE_R; s_fence = FENCE(c_undoe,2,1,1); s_best = 0; s_anew = 0 /* open Redis, live */
  :: c_plan == 3 && c_undo == 1 && c_step == 1 -> s_act = RAISE_M; s_fence = FENCE(c_undoe,2,1,1); s_best = 0; s_anew = 0 /* open MySQL, live */
  :: c_plan == 3 && c_undo == 1 && c_step == 2 -> s_act = SERVE; s_fence = FENCE(c_undoe,2,1,1); s_best = 0; s_anew = 0 /* serve live */
  :: c_plan == 4 && c_undo == 0 && c_step == 0 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,3,1,0); s_best = 0; s_anew = 0 /* open Redis, mysql-only */
  :: c_plan == 4 && c_undo == 0 && c_step == 1 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,3,1,0); s_best = 0; s_anew = 0 /* open MySQL, mysql-only */
  :: c_plan == 4 && c_undo == 0 && c_step == 2 -> s_act = SERVE; s_fence = FENCE(c_epoch,3,1,0); s_best = 0; s_anew = 0 /* serve mysql-only */
  :: c_plan == 4 && c_undo == 1 && c_step == 0 -> s_act = RAISE_R; s_fence = FENCE(c_undoe,2,1,1); s_best = 0; s_anew = 0 /* open Redis, live */
  :: c_plan == 4 && c_undo == 1 && c_step == 1 -> s_act = RAISE_M; s_fence = FENCE(c_undoe,2,1,1); s_best = 0; s_anew = 0 /* open MySQL, live */
  :: c_plan == 4 && c_undo == 1 && c_step == 2 -> s_act = SERVE; s_fence = FENCE(c_undoe,2,1,1); s_best = 0; s_anew = 0 /* serve live */
  :: c_plan == 5 && c_undo == 0 && c_step == 0 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,3,1,0); s_best = 0; s_anew = 0 /* open MySQL, mysql-only */
  :: c_plan == 5 && c_undo == 0 && c_step == 1 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,3,1,0); s_best = 1; s_anew = 0 /* open Redis, mysql-only */
  :: c_plan == 5 && c_undo == 0 && c_step == 2 -> s_act = SERVE; s_fence = FENCE(c_epoch,3,1,0); s_best = 0; s_anew = 0 /* serve mysql-only */
  :: c_plan == 6 && c_undo == 0 && c_step == 0 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,2,1,0); s_best = 0; s_anew = 0 /* open Redis, live (filling) */
  :: c_plan == 6 && c_undo == 0 && c_step == 1 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,2,1,0); s_best = 0; s_anew = 0 /* open MySQL, live (filling) */
  :: c_plan == 6 && c_undo == 0 && c_step == 2 -> s_act = SERVE; s_fence = FENCE(c_epoch,2,1,0); s_best = 0; s_anew = 0 /* serve live */
  :: c_plan == 6 && c_undo == 1 && c_step == 0 -> s_act = RAISE_M; s_fence = FENCE(c_undoe,3,1,0); s_best = 0; s_anew = 0 /* open MySQL, mysql-only */
  :: c_plan == 6 && c_undo == 1 && c_step == 1 -> s_act = RAISE_R; s_fence = FENCE(c_undoe,3,1,0); s_best = 1; s_anew = 0 /* open Redis, mysql-only */
  :: c_plan == 6 && c_undo == 1 && c_step == 2 -> s_act = SERVE; s_fence = FENCE(c_undoe,3,1,0); s_best = 0; s_anew = 0 /* serve mysql-only */
  :: c_plan == 7 && c_undo == 0 && c_step == 0 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,2,0,1); s_best = 0; s_anew = 0 /* close MySQL, live */
  :: c_plan == 7 && c_undo == 0 && c_step == 1 -> s_act = DRAIN; s_fence = FENCE(c_from,2,1,0); s_best = 0; s_anew = 0 /* drain outbox of MySQL */
  :: c_plan == 7 && c_undo == 0 && c_step == 2 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,2,1,1); s_best = 0; s_anew = 0 /* open Redis, live */
  :: c_plan == 7 && c_undo == 0 && c_step == 3 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,2,1,1); s_best = 0; s_anew = 0 /* open MySQL, live */
  :: c_plan == 7 && c_undo == 0 && c_step == 4 -> s_act = SERVE; s_fence = FENCE(c_epoch,2,1,1); s_best = 0; s_anew = 0 /* serve live */
  :: c_plan == 7 && c_undo == 1 && c_step == 0 -> s_act = RAISE_M; s_fence = FENCE(c_undoe,2,1,0); s_best = 0; s_anew = 0 /* open MySQL, live (filling) */
  :: c_plan == 7 && c_undo == 1 && c_step == 1 -> s_act = RAISE_R; s_fence = FENCE(c_undoe,2,1,0); s_best = 1; s_anew = 0 /* open Redis, live (filling) */
  :: c_plan == 7 && c_undo == 1 && c_step == 2 -> s_act = SERVE; s_fence = FENCE(c_undoe,2,1,0); s_best = 0; s_anew = 0 /* serve live */
  :: c_plan == 8 && c_undo == 0 && c_step == 0 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,0,0,0); s_best = 0; s_anew = 1 /* close Redis, redis-only */
  :: c_plan == 8 && c_undo == 0 && c_step == 1 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,0,1,0); s_best = 1; s_anew = 0 /* open MySQL, redis-only */
  :: c_plan == 8 && c_undo == 0 && c_step == 2 -> s_act = RESTORE; s_fence = FENCE(c_epoch,0,0,0); s_best = 1; s_anew = 0 /* restore Redis from MySQL */
  :: c_plan == 8 && c_undo == 0 && c_step == 3 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,0,1,0); s_best = 0; s_anew = 0 /* open Redis, redis-only */
  :: c_plan == 8 && c_undo == 0 && c_step == 4 -> s_act = SERVE; s_fence = FENCE(c_epoch,0,1,0); s_best = 0; s_anew = 0 /* serve redis-only */
  :: c_plan == 9 && c_undo == 0 && c_step == 0 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,0,0,0); s_best = 0; s_anew = 1 /* close Redis, redis-only */
  :: c_plan == 9 && c_undo == 0 && c_step == 1 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,1,1,0); s_best = 1; s_anew = 0 /* open MySQL, shadow */
  :: c_plan == 9 && c_undo == 0 && c_step == 2 -> s_act = RESTORE; s_fence = FENCE(c_epoch,1,0,0); s_best = 1; s_anew = 0 /* restore Redis from MySQL */
  :: c_plan == 9 && c_undo == 0 && c_step == 3 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,1,1,0); s_best = 0; s_anew = 0 /* open Redis, shadow */
  :: c_plan == 9 && c_undo == 0 && c_step == 4 -> s_act = SERVE; s_fence = FENCE(c_epoch,1,1,0); s_best = 0; s_anew = 0 /* serve shadow */
  :: c_plan == 10 && c_undo == 0 && c_step == 0 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,2,1,0); s_best = 0; s_anew = 1 /* open Redis, live (filling) */
  :: c_plan == 10 && c_undo == 0 && c_step == 1 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,2,1,0); s_best = 0; s_anew = 0 /* open MySQL, live (filling) */
  :: c_plan == 10 && c_undo == 0 && c_step == 2 -> s_act = SERVE; s_fence = FENCE(c_epoch,2,1,0); s_best = 0; s_anew = 0 /* serve live */
  :: c_plan == 11 && c_undo == 0 && c_step == 0 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,3,1,0); s_best = 0; s_anew = 0 /* open MySQL, mysql-only */
  :: c_plan == 11 && c_undo == 0 && c_step == 1 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,3,1,0); s_best = 1; s_anew = 0 /* open Redis, mysql-only */
  :: c_plan == 11 && c_undo == 0 && c_step == 2 -> s_act = SERVE; s_fence = FENCE(c_epoch,3,1,0); s_best = 0; s_anew = 0 /* serve mysql-only */
  :: c_plan == 12 && c_undo == 0 && c_step == 0 -> s_act = RAISE_R; s_fence = FENCE(c_epoch,2,1,0); s_best = 0; s_anew = 1 /* open Redis, live (filling) */
  :: c_plan == 12 && c_undo == 0 && c_step == 1 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,2,0,0); s_best = 0; s_anew = 0 /* close MySQL, live (filling) */
  :: c_plan == 12 && c_undo == 0 && c_step == 2 -> s_act = RESTORE; s_fence = FENCE(c_epoch,2,0,0); s_best = 1; s_anew = 0 /* restore Redis from MySQL */
  :: c_plan == 12 && c_undo == 0 && c_step == 3 -> s_act = RAISE_M; s_fence = FENCE(c_epoch,2,1,0); s_best = 0; s_anew = 0 /* open MySQL, live (filling) */
  :: c_plan == 12 && c_undo == 0 && c_step == 4 -> s_act = SERVE; s_fence = FENCE(c_epoch,2,1,0); s_best = 0; s_anew = 0 /* serve live */
  fi
}
/* Whether a raise of Redis may start from have. */
inline expected() {
  if
  :: c_plan == 0 && c_undo == 0 && c_step == 1 -> yes = (have == c_was)
  :: c_plan == 0 && c_undo == 1 && c_step == 0 && c_undoneat == 0 -> yes = (have == c_was)
  :: c_plan == 0 && c_undo == 1 && c_step == 0 && c_undoneat == 1 -> yes = (have == c_was || have == FENCE(c_epoch,1,1,0))
  :: c_plan == 1 && c_undo == 0 && c_step == 0 -> yes = (have == c_was)
  :: c_plan == 1 && c_undo == 0 && c_step == 2 -> yes = (have == FENCE(c_epoch,1,0,0))
  :: c_plan == 1 && c_undo == 1 && c_step == 0 && c_undoneat == 0 -> yes = (have == c_was || have == FENCE(c_epoch,1,0,0))
  :: c_plan == 1 && c_undo == 1 && c_step == 0 && c_undoneat == 1 -> yes = (have == FENCE(c_epoch,1,0,0))
  :: c_plan == 1 && c_undo == 1 && c_step == 0 && c_undoneat == 2 -> yes = (have == FENCE(c_epoch,1,0,0) || have == FENCE(c_epoch,2,1,1))
  :: c_plan == 1 && c_undo == 1 && c_step == 0 && c_undoneat == 3 -> yes = (have == FENCE(c_epoch,2,1,1))
  :: c_plan == 2 && c_undo == 0 && c_step == 0 -> yes = (have == c_was)
  :: c_plan == 3 && c_undo == 0 && c_step == 3 -> yes = (have == c_was)
  :: c_plan == 3 && c_undo == 1 && c_step == 0 && c_undoneat == 0 -> yes = (have == c_was)
  :: c_plan == 3 && c_undo == 1 && c_step == 0 && c_undoneat == 1 -> yes = (have == c_was)
  :: c_plan == 4 && c_undo == 0 && c_step == 0 -> yes = (have == c_was)
  :: c_plan == 4 && c_undo == 1 && c_step == 0 && c_undoneat == 0 -> yes = (have == c_was || have == FENCE(c_epoch,3,1,0))
  :: c_plan == 6 && c_undo == 0 && c_step == 0 -> yes = (have == c_was)
  :: c_plan == 7 && c_undo == 0 && c_step == 2 -> yes = (have == c_was)
  :: c_plan == 8 && c_undo == 0 && c_step == 0 -> yes = (have == c_was)
  :: c_plan == 8 && c_undo == 0 && c_step == 3 -> yes = (have == FENCE(c_epoch,0,0,0))
  :: c_plan == 9 && c_undo == 0 && c_step == 0 -> yes = (have == c_was)
  :: c_plan == 9 && c_undo == 0 && c_step == 3 -> yes = (have == FENCE(c_epoch,0,0,0))
  :: c_plan == 10 && c_undo == 0 && c_step == 0 -> yes = (have == c_was)
  :: c_plan == 12 && c_undo == 0 && c_step == 0 -> yes = (have == c_was)
  :: else -> yes = 1
  fi
}
/* Whether the record allows Redis to be at have. */
inline on_path() {
  if
  :: c_plan == 0 && c_undo == 0 && c_step == 0 -> yes = (have == c_was)
  :: c_plan == 0 && c_undo == 0 && c_step == 1 -> yes = (have == c_was || have == FENCE(c_epoch,1,1,0))
  :: c_plan == 0 && c_undo == 0 && c_step == 2 -> yes = (have == FENCE(c_epoch,1,1,0))
  :: c_plan == 0 && c_undo == 1 && c_step == 0 && c_undoneat == 0 -> yes = (have == c_was || have == FENCE(c_undoe,0,1,0))
  :: c_plan == 0 && c_undo == 1 && c_step == 1 && c_undoneat == 0 -> yes = (have == FENCE(c_undoe,0,1,0))
  :: c_plan == 0 && c_undo == 1 && c_step == 2 && c_undoneat == 0 -> yes = (have == FENCE(c_undoe,0,1,0))
  :: c_plan == 0 && c_undo == 1 && c_step == 0 && c_undoneat == 1 -> yes = (have == c_was || have == FENCE(c_epoch,1,1,0) || have == FENCE(c_undoe,0,1,0))
  :: c_plan == 0 && c_undo == 1 && c_step == 1 && c_undoneat == 1 -> yes = (have == FENCE(c_undoe,0,1,0))
  :: c_plan == 0 && c_undo == 1 && c_step == 2 && c_undoneat == 1 -> yes = (have == FENCE(c_undoe,0,1,0))
  :: c_plan == 1 && c_undo == 0 && c_step == 0 -> yes = (have == c_was || have == FENCE(c_epoch,1,0,0))
  :: c_plan == 1 && c_undo == 0 && c_step == 1 -> yes = (have == FENCE(c_epoch,1,0,0))
  :: c_plan == 1 && c_undo == 0 && c_step == 2 -> yes = (have == FENCE(c_epoch,1,0,0) || have == FENCE(c_epoch,2,1,1))
  :: c_plan == 1 && c_undo == 0 && c_step == 3 -> yes = (have == FENCE(c_epoch,2,1,1))
  :: c_plan == 1 && c_undo == 0 && c_step == 4 -> yes = (have == FENCE(c_epoch,2,1,1))
  :: c_plan == 1 && c_undo == 1 && c_step == 0 && c_undoneat == 0 -> yes = (have == c_was || have == FENCE(c_epoch,1,0,0) || have == FENCE(c_undoe,1,1,0))
  :: c_plan == 1 && c_undo == 1 && c_step == 1 && c_undoneat == 0 -> yes = (have == FENCE(c_undoe,1,1,0))
  :: c_plan == 1 && c_undo == 1 && c_step == 2 && c_undoneat == 0 -> yes = (have == FENCE(c_undoe,1,1,0))
  :: c_plan == 1 && c_undo == 1 && c_step == 0 && c_undoneat == 1 -> yes = (have == FENCE(c_epoch,1,0,0) || have == FENCE(c_undoe,1,1,0))
  :: c_plan == 1 && c_undo == 1 && c_step == 1 && c_undoneat == 1 -> yes = (have == FENCE(c_undoe,1,1,0))
  :: c_plan == 1 && c_undo == 1 && c_step == 2 && c_undoneat == 1 -> yes = (have == FENCE(c_undoe,1,1,0))
  :: c_plan == 1 && c_undo == 1 && c_step == 0 && c_undoneat == 2 -> yes = (have == FENCE(c_epoch,1,0,0) || have == FENCE(c_epoch,2,1,1) || have == FENCE(c_undoe,1,1,0))
  :: c_plan == 1 && c_undo == 1 && c_step == 1 && c_undoneat == 2 -> yes = (have == FENCE(c_undoe,1,1,0))
  :: c_plan == 1 && c_undo == 1 && c_step == 2 && c_undoneat == 2 -> yes = (have == FENCE(c_undoe,1,1,0))
  :: c_plan == 1 && c_undo == 1 && c_step == 0 && c_undoneat == 3 -> yes = (have == FENCE(c_epoch,2,1,1) || have == FENCE(c_undoe,1,1,0))
  :: c_plan == 1 && c_undo == 1 && c_step == 1 && c_undoneat == 3 -> yes = (have == FENCE(c_undoe,1,1,0))
  :: c_plan == 1 && c_undo == 1 && c_step == 2 && c_undoneat == 3 -> yes = (have == FENCE(c_undoe,1,1,0))
  :: c_plan == 2 && c_undo == 0 && c_step == 0 -> yes = (have == c_was || have == FENCE(c_epoch,0,1,0))
  :: c_plan == 2 && c_undo == 0 && c_step == 1 -> yes = (have == FENCE(c_epoch,0,1,0))
  :: c_plan == 2 && c_undo == 0 && c_step == 2 -> yes = (have == FENCE(c_epoch,0,1,0))
  :: c_plan == 3 && c_undo == 0 && c_step == 0 -> yes = (have == c_was)
  :: c_plan == 3 && c_undo == 0 && c_step == 1 -> yes = (have == c_was)
  :: c_plan == 3 && c_undo == 0 && c_step == 2 -> yes = (have == c_was)
  :: c_plan == 3 && c_undo == 0 && c_step == 3 -> yes = (have == c_was || have == FENCE(c_epoch,1,1,0))
  :: c_plan == 3 && c_undo == 0 && c_step == 4 -> yes = (have == FENCE(c_epoch,1,1,0))
  :: c_plan == 3 && c_undo == 1 && c_step == 0 && c_undoneat == 0 -> yes = (have == c_was || have == FENCE(c_undoe,2,1,1))
  :: c_plan == 3 && c_undo == 1 && c_step == 1 && c_undoneat == 0 -> yes = (have == FENCE(c_undoe,2,1,1))
  :: c_plan == 3 && c_undo == 1 && c_step == 2 && c_undoneat == 0 -> yes = (have == FENCE(c_undoe,2,1,1))
  :: c_plan == 3 && c_undo == 1 && c_step == 0 && c_undoneat == 1 -> yes = (have == c_was || have == FENCE(c_undoe,2,1,1))
  :: c_plan == 3 && c_undo == 1 && c_step == 1 && c_undoneat == 1 -> yes = (have == FENCE(c_undoe,2,1,1))
  :: c_plan == 3 && c_undo == 1 && c_step == 2 && c_undoneat == 1 -> yes = (have == FENCE(c_undoe,2,1,1))
  :: c_plan == 4 && c_undo == 0 && c_step == 0 -> yes = (have == c_was || have == FENCE(c_epoch,3,1,0))
  :: c_plan == 4 && c_undo == 0 && c_step == 1 -> yes = (have == FENCE(c_epoch,3,1,0))
  :: c_plan == 4 && c_undo == 0 && c_step == 2 -> yes = (have == FENCE(c_epoch,3,1,0))
  :: c_plan == 4 && c_undo == 1 && c_step == 0 && c_undoneat == 0 -> yes = (have == c_was || have == FENCE(c_epoch,3,1,0) || have == FENCE(c_undoe,2,1,1))
  :: c_plan == 4 && c_undo == 1 && c_step == 1 && c_undoneat == 0 -> yes = (have == FENCE(c_undoe,2,1,1))
  :: c_plan == 4 && c_undo == 1 && c_step == 2 && c_undoneat == 0 -> yes = (have == FENCE(c_undoe,2,1,1))
  :: c_plan == 5 && c_undo == 0 && c_step == 0 -> yes = (have == c_was)
  :: c_plan == 5 && c_undo == 0 && c_step == 1 -> yes = (have == c_was || have == FENCE(c_epoch,3,1,0))
  :: c_plan == 5 && c_undo == 0 && c_step == 2 -> yes = (have == c_was || have == FENCE(c_epoch,3,1,0))
  :: c_plan == 6 && c_undo == 0 && c_step == 0 -> yes = (have == c_was || have == FENCE(c_epoch,2,1,0))
  :: c_plan == 6 && c_undo == 0 && c_step == 1 -> yes = (have == FENCE(c_epoch,2,1,0))
  :: c_plan == 6 && c_undo == 0 && c_step == 2 -> yes = (have == FENCE(c_epoch,2,1,0))
  :: c_plan == 6 && c_undo == 1 && c_step == 0 && c_undoneat == 0 -> yes = (have == c_was || have == FENCE(c_epoch,2,1,0))
  :: c_plan == 6 && c_undo == 1 && c_step == 1 && c_undoneat == 0 -> yes = (have == c_was || have == FENCE(c_epoch,2,1,0) || have == FENCE(c_undoe,3,1,0))
  :: c_plan == 6 && c_undo == 1 && c_step == 2 && c_undoneat == 0 -> yes = (have == c_was || have == FENCE(c_epoch,2,1,0) || have == FENCE(c_undoe,3,1,0))
  :: c_plan == 6 && c_undo == 1 && c_step == 0 && c_undoneat == 1 -> yes = (have == FENCE(c_epoch,2,1,0))
  :: c_plan == 6 && c_undo == 1 && c_step == 1 && c_undoneat == 1 -> yes = (have == FENCE(c_epoch,2,1,0) || have == FENCE(c_undoe,3,1,0))
  :: c_plan == 6 && c_undo == 1 && c_step == 2 && c_undoneat == 1 -> yes = (have == FENCE(c_epoch,2,1,0) || have == FENCE(c_undoe,3,1,0))
  :: c_plan == 7 && c_undo == 0 && c_step == 0 -> yes = (have == c_was)
  :: c_plan == 7 && c_undo == 0 && c_step == 1 -> yes = (have == c_was)
  :: c_plan == 7 && c_undo == 0 && c_step == 2 -> yes = (have == c_was || have == FENCE(c_epoch,2,1,1))
  :: c_plan == 7 && c_undo == 0 && c_step == 3 -> yes = (have == FENCE(c_epoch,2,1,1))
  :: c_plan == 7 && c_undo == 0 && c_step == 4 -> yes = (have == FENCE(c_epoch,2,1,1))
  :: c_plan == 7 && c_undo == 1 && c_step == 0 && c_undoneat == 0 -> yes = (have == c_was)
  :: c_plan == 7 && c_undo == 1 && c_step == 1 && c_undoneat == 0 -> yes = (have == c_was || have == FENCE(c_undoe,2,1,0))
  :: c_plan == 7 && c_undo == 1 && c_step == 2 && c_undoneat == 0 -> yes = (have == c_was || have == FENCE(c_undoe,2,1,0))
  :: c_plan == 7 && c_undo == 1 && c_step == 0 && c_undoneat == 1 -> yes = (have == c_was)
  :: c_plan == 7 && c_undo == 1 && c_step == 1 && c_undoneat == 1 -> yes = (have == c_was || have == FENCE(c_undoe,2,1,0))
  :: c_plan == 7 && c_undo == 1 && c_step == 2 && c_undoneat == 1 -> yes = (have == c_was || have == FENCE(c_undoe,2,1,0))
  :: c_plan == 8 && c_undo == 0 && c_step == 0 -> yes = (have == c_was || have == FENCE(c_epoch,0,0,0))
  :: c_plan == 8 && c_undo == 0 && c_step == 1 -> yes = (have == FENCE(c_epoch,0,0,0))
  :: c_plan == 8 && c_undo == 0 && c_step == 2 -> yes = (have == FENCE(c_epoch,0,0,0))
  :: c_plan == 8 && c_undo == 0 && c_step == 3 -> yes = (have == FENCE(c_epoch,0,0,0) || have == FENCE(c_epoch,0,1,0))
  :: c_plan == 8 && c_undo == 0 && c_step == 4 -> yes = (have == FENCE(c_epoch,0,1,0))
  :: c_plan == 9 && c_undo == 0 && c_step == 0 -> yes = (have == c_was || have == FENCE(c_epoch,0,0,0))
  :: c_plan == 9 && c_undo == 0 && c_step == 1 -> yes = (have == FENCE(c_epoch,0,0,0))
  :: c_plan == 9 && c_undo == 0 && c_step == 2 -> yes = (have == FENCE(c_epoch,0,0,0))
  :: c_plan == 9 && c_undo == 0 && c_step == 3 -> yes = (have == FENCE(c_epoch,0,0,0) || have == FENCE(c_epoch,1,1,0))
  :: c_plan == 9 && c_undo == 0 && c_step == 4 -> yes = (have == FENCE(c_epoch,1,1,0))
  :: c_plan == 10 && c_undo == 0 && c_step == 0 -> yes = (have == c_was || have == FENCE(c_epoch,2,1,0))
  :: c_plan == 10 && c_undo == 0 && c_step == 1 -> yes = (have == FENCE(c_epoch,2,1,0))
  :: c_plan == 10 && c_undo == 0 && c_step == 2 -> yes = (have == FENCE(c_epoch,2,1,0))
  :: c_plan == 11 && c_undo == 0 && c_step == 0 -> yes = (have == c_was)
  :: c_plan == 11 && c_undo == 0 && c_step == 1 -> yes = (have == c_was || have == FENCE(c_epoch,3,1,0))
  :: c_plan == 11 && c_undo == 0 && c_step == 2 -> yes = (have == c_was || have == FENCE(c_epoch,3,1,0))
  :: c_plan == 12 && c_undo == 0 && c_step == 0 -> yes = (have == c_was || have == FENCE(c_epoch,2,1,0))
  :: c_plan == 12 && c_undo == 0 && c_step == 1 -> yes = (have == FENCE(c_epoch,2,1,0))
  :: c_plan == 12 && c_undo == 0 && c_step == 2 -> yes = (have == FENCE(c_epoch,2,1,0))
  :: c_plan == 12 && c_undo == 0 && c_step == 3 -> yes = (have == FENCE(c_epoch,2,1,0))
  :: c_plan == 12 && c_undo == 0 && c_step == 4 -> yes = (have == FENCE(c_epoch,2,1,0))
  :: else -> yes = 0
  fi
}
/* The first step from which on there is no undoing. */
inline no_return() {
  if
  :: c_plan == 0 -> limit = 2
  :: c_plan == 1 -> limit = 4
  :: c_plan == 2 -> limit = 0
  :: c_plan == 3 -> limit = 2
  :: c_plan == 4 -> limit = 1
  :: c_plan == 5 -> limit = 0
  :: c_plan == 6 -> limit = 2
  :: c_plan == 7 -> limit = 2
  :: c_plan == 8 -> limit = 0
  :: c_plan == 9 -> limit = 0
  :: c_plan == 10 -> limit = 0
  :: c_plan == 11 -> limit = 0
  :: c_plan == 12 -> limit = 0
  fi
}
/* From which step on MySQL may have been opened where it did not decide before. */
inline may_open_from() {
  if
  :: c_plan == 0 -> opened = 9
  :: c_plan == 1 -> opened = 3
  :: c_plan == 2 -> opened = 9
  :: c_plan == 3 -> opened = 9
  :: c_plan == 4 -> opened = 9
  :: c_plan == 5 -> opened = 9
  :: c_plan == 6 -> opened = 9
  :: c_plan == 7 -> opened = 9
  :: c_plan == 8 -> opened = 9
  :: c_plan == 9 -> opened = 9
  :: c_plan == 10 -> opened = 9
  :: c_plan == 11 -> opened = 9
  :: c_plan == 12 -> opened = 9
  fi
}

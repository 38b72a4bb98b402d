//! What do the pages say?

super::sentences! {
    // every page
    language_label "Language" "Langue";
    one_moment "One moment…" "Un instant…";
    link_start "Pay with a code" "Payer avec un code";
    link_verify "Check a receipt" "Vérifier un reçu";
    link_me "Your profile" "Votre profil";
    skip "Skip to the content" "Aller au contenu";
    second "second" "seconde";
    seconds "seconds" "secondes";
    minute "minute" "minute";
    minutes "minutes" "minutes";

    // start: a code or the camera
    start_title "Pay at a terminal" "Payer à un terminal";
    start_lead "Tap your phone on the tag, or scan the code on the screen with its camera. Nothing to install." "Approchez votre téléphone de la pastille, ou scannez le code à l’écran avec son appareil photo. Rien à installer.";
    start_or "Or type the code" "Ou tapez le code";
    code_label "Code on the terminal’s screen" "Code affiché par le terminal";
    code_hint "15 digits in three groups of five" "15 chiffres, en trois groupes de cinq";
    go_on "Continue" "Continuer";
    scan "Scan with the camera" "Scanner avec l’appareil photo";
    scan_stop "Close the camera" "Fermer l’appareil photo";
    scan_view "Picture of the camera" "Image de l’appareil photo";
    scan_aim "Point the camera at the square code on the terminal’s screen." "Visez le code carré affiché sur l’écran du terminal.";
    scan_missing "This browser cannot scan. Open your phone’s own camera app and point it at the terminal’s screen." "Ce navigateur ne sait pas scanner. Ouvrez l’application photo de votre téléphone et visez l’écran du terminal.";
    scan_denied "The camera did not open. Allow it for this page, or use your phone’s own camera app." "L’appareil photo ne s’est pas ouvert. Autorisez-le pour cette page, ou utilisez l’application photo de votre téléphone.";
    scan_foreign "That is not the code of a terminal here. Look for the square code on the terminal’s screen." "Ce n’est pas le code d’un terminal d’ici. Cherchez le code carré à l’écran du terminal.";
    code_needs_sign_in "Typing a code takes a signed-in account, so that nobody can try codes unseen. Tapping and scanning do not." "Pour taper un code, il faut être connecté : ainsi personne ne peut essayer des codes sans être vu. Approcher ou scanner n’en a pas besoin.";
    code_sign_in_title "Sign in, then type the code" "Connectez-vous, puis tapez le code";
    code_sign_in_lead "A typed code is taken from signed-in people only. After the sign-in, type the code that the screen shows then: it changes every minute or two." "Un code tapé n’est accepté que de personnes connectées. Après la connexion, tapez le code affiché à ce moment-là : il change toutes les minutes ou deux.";
    code_once_signed_in "You are signed in. Type the code that the screen shows now." "Vous êtes connecté. Tapez le code que l’écran affiche maintenant.";

    // the terminal, looked at
    look_title(payee) "Pay {payee}" "Payer {payee}";
    look_open_title(payee) "Pay {payee} what you like" "Payer {payee} : à vous de choisir";
    look_at "Terminal" "Terminal";
    look_for "For" "Pour";
    look_cap(cap) "At most {cap}; you choose the amount on the next page." "Au plus {cap} ; vous choisissez le montant à la page suivante.";
    look_spends_nothing "Nothing is paid yet. On the next page you see the same number as on the terminal’s screen, and approve." "Rien n’est encore payé. À la page suivante vous verrez le même nombre que sur l’écran du terminal, et vous approuverez.";
    look_offline "This terminal has no connection just now: its screen will not confirm the payment. The receipt on your phone does." "Ce terminal n’a pas de connexion en ce moment : son écran ne confirmera pas le paiement. Le reçu sur votre téléphone le confirme.";

    // the claim: sign in, approve
    pay_title(payee) "Pay {payee}" "Payer {payee}";
    amount_label "How much do you pay?" "Combien payez-vous ?";
    amount_hint(cap) "At most {cap}" "Au plus {cap}";
    amount_bad(cap) "Write an amount above zero and at most {cap}." "Écrivez un montant supérieur à zéro et d’au plus {cap}.";
    mark_label "Your number" "Votre nombre";
    mark_same "The terminal’s screen shows the same number. If it does not, do not pay." "L’écran du terminal affiche le même nombre. Sinon, ne payez pas.";
    time_left(time) "Kept for you for another {time}." "Réservé pour vous encore {time}.";
    sign_in_title "Sign in to pay" "Connectez-vous pour payer";
    sign_in_lead "With an account you already have. Nothing to register." "Avec un compte que vous avez déjà. Rien à créer.";
    sign_in_with(provider) "Continue with {provider}" "Continuer avec {provider}";
    sign_in_none "Nobody can sign in here yet: the operator has set up no identity provider." "Personne ne peut encore se connecter ici : l’exploitant n’a configuré aucun fournisseur d’identité.";
    onward_title "On to the sign-in" "Vers la connexion";
    onward_lead(host) "You are being taken to {host}." "Vous êtes conduit vers {host}.";
    pay_from "Pay from" "Payer avec";
    pay_balance "Balance" "Solde";
    pay_default "Default" "Par défaut";
    pay_no_account "There is no account to pay from in this currency." "Il n’y a pas de compte pour payer dans cette devise.";
    pay_no_account_next "Link another account in your profile, or ask the merchant for another way to pay." "Reliez un autre compte dans votre profil, ou demandez au commerçant un autre moyen de payer.";
    pay_button(amount) "Pay {amount}" "Payer {amount}";
    pay_button_open "Pay" "Payer";
    step_up_button(amount) "Confirm {amount} with your passkey" "Confirmer {amount} avec votre clé d’accès";
    step_up_failed "Your phone did not confirm it. Try again." "Votre téléphone ne l’a pas confirmé. Réessayez.";
    step_up_script "Confirming takes JavaScript. Switch it on for this page, or pay a smaller amount." "La confirmation a besoin de JavaScript. Activez-le pour cette page, ou payez un montant plus petit.";
    step_up_add "You have no passkey yet. Make one now: your phone asks for your finger, your face or its PIN." "Vous n’avez pas encore de clé d’accès. Créez-en une maintenant : votre téléphone demande votre doigt, votre visage ou son code.";
    step_up_add_again "You have no passkey yet, and making one takes a sign-in of the last minutes. Sign in again, then pay: your phone asks for your finger, your face or its PIN." "Vous n’avez pas encore de clé d’accès, et en créer une demande une connexion des dernières minutes. Reconnectez-vous, puis payez : votre téléphone demande votre doigt, votre visage ou son code.";
    passkey_name "Name of the passkey" "Nom de la clé d’accès";
    passkey_default "This phone" "Ce téléphone";
    passkey_add "Make a passkey" "Créer une clé d’accès";
    passkey_failed "No passkey was made. Try again, or use another device." "Aucune clé d’accès n’a été créée. Réessayez, ou utilisez un autre appareil.";

    // while the rail works
    pending_title "Payment under way" "Paiement en cours";
    pending_lead "Your bank is answering. This page goes on by itself; you can also close it and come back." "Votre banque répond. Cette page continue d’elle-même ; vous pouvez aussi la fermer et revenir.";
    pending_look "Look again" "Regarder à nouveau";

    // the receipt
    paid_title "Paid" "Payé";
    paid_to "To" "À";
    paid_at "When" "Le";
    paid_reference "For" "Pour";
    paid_number "Receipt" "Reçu";
    paid_rail "Carried out as" "Exécuté sous";
    paid_pseudonym "You, for this merchant" "Vous, pour ce commerçant";
    paid_pseudonym_note "This merchant knows you by this name only, and no other merchant does." "Ce commerçant ne vous connaît que sous ce nom, et aucun autre commerçant ne le connaît.";
    paid_channel "How" "Comment";
    channel_nfc "Tapped" "Sans contact";
    channel_qr "Scanned" "Scanné";
    channel_code "Typed" "Tapé";
    paid_pending "Paid. The signed receipt follows in a moment." "Payé. Le reçu signé suit dans un instant.";
    paid_save "Save" "Enregistrer";
    paid_print "Print" "Imprimer";
    paid_share "Share" "Partager";
    paid_copied "The link is copied." "Le lien est copié.";
    paid_verify "Check it" "Vérifier";
    paid_actions "What you can do with the receipt" "Que faire du reçu";

    // verification
    verify_title "Check a receipt" "Vérifier un reçu";
    verify_lead "Paste a receipt, the text that begins with “eyJ”. Its signature is compared with the keys this authority publishes." "Collez un reçu, le texte qui commence par « eyJ ». Sa signature est comparée avec les clés que cette autorité publie.";
    verify_label "Receipt" "Reçu";
    verify_button "Check" "Vérifier";
    verify_good "This receipt is genuine" "Ce reçu est authentique";
    verify_proves "This authority has signed exactly what stands below, and not a letter was changed since." "Cette autorité a signé exactement ce qui figure ci-dessous, et pas une lettre n’a changé depuis.";
    verify_not_proves "It does not prove who holds it now, nor that nothing was refunded later." "Il ne prouve pas qui le détient maintenant, ni que rien n’a été remboursé plus tard.";
    verify_tainted "The key that signed it has been withdrawn since. Ask the merchant or the operator before you rely on it." "La clé qui l’a signé a été retirée depuis. Demandez au commerçant ou à l’exploitant avant de vous y fier.";
    verify_here "Checked in your browser; the receipt was not sent anywhere." "Vérifié dans votre navigateur ; le reçu n’a été envoyé nulle part.";
    verify_bad "This is not a genuine receipt" "Ce n’est pas un reçu authentique";
    verify_bad_next "It was changed, cut short, or signed by somebody else. Ask whoever gave it to you for the original." "Il a été modifié, tronqué, ou signé par quelqu’un d’autre. Demandez l’original à qui vous l’a donné.";
    verify_no_keys "The published keys could not be fetched. Try again in a moment." "Les clés publiées n’ont pas pu être obtenues. Réessayez dans un instant.";

    // the profile
    me_title "Your profile" "Votre profil";
    me_sign_in_lead "Sign in with an account you already have to see what you pay from, where you are signed in, and who opens your profile." "Connectez-vous avec un compte que vous avez déjà pour voir avec quoi vous payez, où vous êtes connecté, et qui ouvre votre profil.";
    me_locked "This profile is locked and pays nothing since" "Ce profil est verrouillé et ne paie rien depuis le";
    me_locked_next "Only the operator unlocks it." "Seul l’exploitant le déverrouille.";
    me_again "That takes a sign-in of the last minutes: sign in again first." "Cela demande une connexion des dernières minutes : reconnectez-vous d’abord.";
    history_title "What you paid" "Ce que vous avez payé";
    history_none "Nothing yet." "Rien pour l’instant.";
    history_refund(payee) "Refund from {payee}" "Remboursement de {payee}";
    history_given_back(amount) "{amount} of it given back" "dont {amount} remboursés";
    history_older "Older ones" "Plus anciens";
    limits_title "Your own limits" "Vos propres limites";
    limits_note "Nothing is paid above them. Leave a field empty for no limit of your own; the operator’s limits hold as well. A lower limit holds at once, a higher one takes a sign-in of the last minutes." "Rien n’est payé au-delà. Laissez un champ vide pour n’avoir aucune limite à vous ; celles de l’exploitant valent aussi. Une limite plus basse vaut aussitôt, une plus haute demande une connexion des dernières minutes.";
    limits_bad "That is not an amount. Nothing was changed." "Ce n’est pas un montant. Rien n’a été changé.";
    limits_each "In one payment" "En un paiement";
    limits_day "In one day (UTC)" "En un jour (UTC)";
    limits_today(amount) "Paid today: {amount}" "Payé aujourd’hui : {amount}";
    limits_set(currency) "Set limits in {currency}" "Fixer les limites en {currency}";
    me_lock "Lock the profile" "Verrouiller le profil";
    me_lock_sure "If your phone is gone, or somebody pays as you" "Si votre téléphone a disparu, ou si quelqu’un paie à votre place";
    me_lock_note "From now on nothing is paid with this profile, from no device. You cannot undo this here: only the operator unlocks it, because whoever has your phone could, too." "Dès maintenant, plus rien n’est payé avec ce profil, depuis aucun appareil. Vous ne pouvez pas l’annuler ici : seul l’exploitant le déverrouille, car qui a votre téléphone le pourrait aussi.";
    me_accounts "What you pay from" "Avec quoi vous payez";
    me_no_accounts "There is no account yet. Link one below, or ask the operator to open one." "Il n’y a pas encore de compte. Reliez-en un ci-dessous, ou demandez à l’exploitant d’en ouvrir un.";
    me_make_default "Use first" "Proposer en premier";
    me_make_default_of(account) "Use first: {account}" "Proposer en premier : {account}";
    me_identities "What opens your profile" "Ce qui ouvre votre profil";
    me_since "Since" "Depuis le";
    me_current "Signed in with it" "Connecté avec lui";
    me_unlink "Unlink" "Délier";
    me_unlink_of(provider) "Unlink {provider}" "Délier {provider}";
    me_link "Link another account" "Relier un autre compte";
    me_link_note "You sign in there, too, and then see once more which profile it joins." "Vous vous y connectez aussi, puis vous voyez encore une fois à quel profil il est relié.";
    me_passkeys "Passkeys" "Clés d’accès";
    me_passkeys_note "Larger payments are confirmed with a passkey: your finger, your face or the PIN of your device." "Les paiements plus importants se confirment avec une clé d’accès : votre doigt, votre visage ou le code de votre appareil.";
    me_remove "Remove" "Retirer";
    me_remove_of(passkey) "Remove {passkey}" "Retirer {passkey}";
    me_sign_ins "Where you are signed in" "Où vous êtes connecté";
    me_this_browser "This browser" "Ce navigateur";
    me_open "Signed in" "Connecté";
    me_ended "Ended" "Terminé";
    me_sign_out "Sign out" "Se déconnecter";
    me_sign_out_everywhere "Sign out everywhere" "Se déconnecter partout";
    me_delete "Delete the profile" "Supprimer le profil";
    me_delete_sure "What this does" "Ce que cela fait";
    me_delete_note "Nothing opens this profile any more, and your accounts are no longer linked. Receipts stay valid. What the law has the operator keep stays, without leading to you. A fingerprint of your sign-in stays with what limits count: what you paid without confirming it strongly for 35 days, the sum of this day until it ends, wrong codes for minutes; then it goes, too." "Plus rien n’ouvre ce profil, et vos comptes ne sont plus reliés. Les reçus restent valables. Ce que la loi impose à l’exploitant de garder reste, sans mener à vous. Une empreinte de votre connexion reste avec ce que comptent les limites : ce que vous avez payé sans confirmation forte pendant 35 jours, la somme du jour jusqu’à sa fin, les codes erronés quelques minutes ; puis elle disparaît aussi.";
    join_title "Link this account?" "Relier ce compte ?";
    join_lead(provider) "Your account at {provider} will open the profile you are signed in to, and its accounts can pay from it." "Votre compte chez {provider} ouvrira le profil auquel vous êtes connecté, et ses comptes pourront y payer.";
    join_profile "Your profile" "Votre profil";
    join_brings "Brings" "Apporte";
    join_note "Only if you began this yourself, just now. Whoever can open this profile can pay from it." "Seulement si vous l’avez commencé vous-même, à l’instant. Qui peut ouvrir ce profil peut payer avec.";
    join_button "Link it" "Relier";
    join_not "Do not link it" "Ne pas relier";
}
